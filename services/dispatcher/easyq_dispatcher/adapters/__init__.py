"""The dispatcher's neighbours: Redis and the store."""
