"""Ctrl-C while a call blocks."""

from __future__ import annotations

import signal


def end_at_ctrl_c() -> None:
    """From here on let SIGINT end the process at once, as it does programs that are not written in Python.

    For commands that have nothing to clean up and use grpcio's blocking calls: a KeyboardInterrupt at the
    beginning of one leaves its channel so that closing it never returns. A SIGINT that is ignored stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
