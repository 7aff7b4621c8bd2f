"""Every test here runs on each transport."""

from hypothesis import settings

from transports import transport

__all__ = ["transport"]

# How long an example takes depends on who else uses the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
