"""Certificates for servers and clients, made when the tests run."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """An authority, a server's certificate for localhost, a client's, and one of a stranger's authority."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1", "::1")
        client = authority.issue_cert("worker@example.org", common_name="worker")
        self.authority: bytes = authority.cert_pem.bytes()
        self.stranger: bytes = stranger.cert_pem.bytes()
        self.server_key: bytes = server.private_key_pem.bytes()
        self.server_chain: bytes = b"".join(blob.bytes() for blob in server.cert_chain_pems)
        self.client_key: bytes = client.private_key_pem.bytes()
        self.client_chain: bytes = b"".join(blob.bytes() for blob in client.cert_chain_pems)
        unknown = stranger.issue_cert("stranger@example.org")
        self.stranger_key: bytes = unknown.private_key_pem.bytes()
        self.stranger_chain: bytes = b"".join(blob.bytes() for blob in unknown.cert_chain_pems)
        self.authority_file = folder / "authority.pem"
        self.authority_file.write_bytes(self.authority)
