// Echo's unary call in grpc-go: `bench-go PORT [FOLDER OF CERTIFICATES]`; see bench/peers/rpc/protocol.py.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var handled atomic.Int64

// unary is what protoc's plugin would generate, with the handler in it. A Note is a StringValue on the wire.
func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	note := new(wrapperspb.StringValue)
	if err := decode(note); err != nil {
		return nil, err
	}
	handled.Add(1)
	return note, nil
}

func answerLines() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() != "handled" {
			log.Fatalf("asked %q: this peer knows only handled", lines.Text())
		}
		fmt.Printf("{\"handled\": %d}\n", handled.Load())
	}
	os.Exit(0)
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: bench-go PORT [FOLDER]")
	}
	var options []grpc.ServerOption
	if len(os.Args) > 2 {
		chain, key := filepath.Join(os.Args[2], "server.pem"), filepath.Join(os.Args[2], "server.key")
		identity, err := credentials.NewServerTLSFromFile(chain, key)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(identity))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.v1.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	}, nil)
	fmt.Printf("{\"versions\": {\"grpc-go\": %q}}\n", grpc.Version)
	fmt.Printf("{\"ready\": true, \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	go answerLines()
	log.Fatal(server.Serve(listener))
}
