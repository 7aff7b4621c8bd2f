"""An authority and a server's certificate for loopback, made anew for a run."""

from pathlib import Path

import trustme

from bench.peers.rpc.protocol import Tls


def issue(folder: Path) -> Tls:
    folder.mkdir(parents=True, exist_ok=True)
    tls = Tls(folder)
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tls.authority)
    tls.chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(tls.key)
    return tls
