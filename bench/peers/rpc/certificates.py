"""An authority and a server's certificate for loopback, made anew for a run."""

from pathlib import Path

from bench.peers.rpc.protocol import NotBuiltError, Tls


def issue(folder: Path) -> Tls:
    try:
        import trustme  # noqa: PLC0415  # what has no TLS is measured without it too
    except ModuleNotFoundError:
        raise NotBuiltError("no trustme here: `make bench` installs it") from None
    folder.mkdir(parents=True, exist_ok=True)
    tls = Tls(folder)
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tls.authority)
    tls.chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(tls.key)
    return tls
