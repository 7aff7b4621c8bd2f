"""Every test here runs on each transport."""

from transports import transport

__all__ = ["transport"]
