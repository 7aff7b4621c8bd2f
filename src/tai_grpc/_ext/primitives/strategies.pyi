"""Picks and releases, for compiled code: see strategies.pxd."""
