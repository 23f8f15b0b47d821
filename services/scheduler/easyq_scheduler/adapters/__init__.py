"""The scheduler's neighbours over gRPC."""
