"""What the runner does, one responsibility a module."""
