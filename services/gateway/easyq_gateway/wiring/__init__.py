"""How the gateway is put together."""
