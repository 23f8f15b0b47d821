"""What the dispatcher does, one module for each responsibility."""
