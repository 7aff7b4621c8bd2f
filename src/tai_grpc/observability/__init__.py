"""What a call leaves behind for people and tools to read: traces and logs."""
