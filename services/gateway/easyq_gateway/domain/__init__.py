"""Pure decisions of the gateway: no sockets, no messages, no clock of its own."""
