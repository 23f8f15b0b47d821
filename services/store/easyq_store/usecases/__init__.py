"""What the store does: each a plan of steps on the persistence port, or a read. Free of transport and of databases."""
