"""Transports: what carries a call to one address and back."""
