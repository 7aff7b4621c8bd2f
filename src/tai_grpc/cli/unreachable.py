"""What to do when a server cannot be connected to."""

from __future__ import annotations

import re
from typing import Final

_NO_TLS: Final = re.compile(r"wrong.version.number|packet.length.too.long|not.TLS", re.IGNORECASE)
_NAME: Final = re.compile(r"hostname mismatch|IP address mismatch", re.IGNORECASE)
_UNTRUSTED: Final = re.compile(r"certificate", re.IGNORECASE)
_CLOSED: Final = re.compile(r"closed it|reset by peer", re.IGNORECASE)


def advice(why: str, *, tls: bool) -> str:
    """Return the likely way out when connecting has failed as `why` says; `tls`: it was asked for."""
    if tls and _NO_TLS.search(why):
        return "the server speaks no TLS: leave --tls, --cacert and the like out"
    if tls and _NAME.search(why):
        return "give the certificate's name by --cname, or --skipTLS"
    if tls and _UNTRUSTED.search(why):
        return "give its authority by --cacert FILE, or --skipTLS"
    if not tls and _CLOSED.search(why):
        return "if the server speaks TLS, give --tls, or --cacert FILE"
    return "is the server running, and is this its address?"
