"""Settings of the tests of the load generator."""

from hypothesis import settings

# How long an example takes depends on who else uses the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
