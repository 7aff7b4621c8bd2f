"""Where the services keep their state."""
