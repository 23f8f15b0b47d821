"""The store: the durable truth of the farm."""
