// Echo's unary call in tonic: `bench-tonic [--one-thread] PORT [FOLDER OF CERTIFICATES]`; see
// bench/peers/rpc/protocol.py. Tokio's runtime is the usual one, of as many threads as there are CPUs, or of one.
use std::error::Error;
use std::io::{stdin, BufRead};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.v1.Echo.rs"));
}
use generated::echo_server::{Echo, EchoServer};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    #[prost(string, tag = "1")]
    pub text: String,
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

struct Answers;

#[tonic::async_trait]
impl Echo for Answers {
    async fn unary(&self, request: Request<Note>) -> Result<Response<Note>, Status> {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(request.into_inner()))
    }
}

fn answer_lines() {
    for line in stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "handled" => println!("{{\"handled\": {}}}", HANDLED.load(Ordering::Relaxed)),
            unknown => panic!("asked {unknown:?}: this peer knows only handled"),
        }
    }
    std::process::exit(0);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let one_thread = arguments.next_if_eq("--one-thread").is_some();
    let mut runtime = if one_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.enable_all().build()?.block_on(serve(arguments))
}

async fn serve(mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let port = arguments.next().ok_or("usage: bench-tonic [--one-thread] PORT [FOLDER]")?;
    let mut server = Server::builder();
    if let Some(folder) = arguments.next() {
        let folder = Path::new(&folder);
        let identity = Identity::from_pem(
            std::fs::read(folder.join("server.pem"))?,
            std::fs::read(folder.join("server.key"))?,
        );
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("{{\"versions\": {{\"tonic\": \"{}\"}}}}", env!("TONIC_VERSION"));
    println!("{{\"ready\": true, \"port\": {}}}", listener.local_addr()?.port());
    std::thread::spawn(answer_lines);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.add_service(EchoServer::new(Answers)).serve_with_incoming(incoming).await?;
    Ok(())
}
