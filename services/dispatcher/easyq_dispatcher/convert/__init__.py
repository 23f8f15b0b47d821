"""Between the protocol's messages and the dispatcher's records."""
