"""What may be sent as metadata, for compiled code: see entries.pxd."""
