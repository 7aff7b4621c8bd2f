"""The Coordinator: actions, handed out to consumer groups under leases."""
