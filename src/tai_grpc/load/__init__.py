"""The load generator, and calls of methods that are known by name only: no generated code is needed."""
