"""JSON ↔ messages by their descriptors, with every error of a body at once."""
