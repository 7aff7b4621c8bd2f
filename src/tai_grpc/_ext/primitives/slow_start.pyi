"""Slow start, for compiled code: see slow_start.pxd."""
