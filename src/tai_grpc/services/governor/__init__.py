"""The Governor: policies and the one version of each that is in force."""
