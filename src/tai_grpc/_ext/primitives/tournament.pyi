"""The least loaded endpoint, for compiled code: see tournament.pxd."""
