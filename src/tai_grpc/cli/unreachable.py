"""What to do when a server cannot be connected to."""

from __future__ import annotations

import re
from typing import Final

_UNKNOWN: Final = re.compile(r"not known|errors resolving|DNS resolution failed")
_NO_TLS: Final = re.compile(r"wrong.version.number|packet.length.too.long|not.TLS", re.IGNORECASE)
_NAME: Final = re.compile(
    r"hostname mismatch|IP address mismatch|Hostname Verification Check failed", re.IGNORECASE
)
_UNTRUSTED: Final = re.compile(r"certificate", re.IGNORECASE)
_CLOSED: Final = re.compile(r"closed it|reset by peer|socket closed", re.IGNORECASE)


def advice(why: str, *, tls: bool) -> str:
    """Return the likely way out when connecting has failed as `why` says; `tls`: it was asked for."""
    if _UNKNOWN.search(why):
        return "is it spelled so?"
    if tls and _NO_TLS.search(why):
        return "the server speaks no TLS: leave --tls, --cacert and the like out"
    if tls and _NAME.search(why):
        return "give the certificate's name by --cname, or --skipTLS"
    if tls and _UNTRUSTED.search(why):
        return "give its authority by --cacert FILE, or --skipTLS"
    if not tls and _CLOSED.search(why):
        return "if the server speaks TLS, give --tls, or --cacert FILE"
    if tls and _CLOSED.search(why):
        return "if it asks for a certificate, give --cert and --key"
    return "is the server running, and is this its address?"
