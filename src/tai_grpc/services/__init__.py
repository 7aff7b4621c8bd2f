"""The control plane: pure state machines under thin servicers, over a store."""
