"""The contract of REST as a document: OpenAPI 3.1, made from the protos, their comments and their rules."""
