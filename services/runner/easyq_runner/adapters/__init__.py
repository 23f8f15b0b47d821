"""Docker, gRPC and files behind the runner's ports."""
