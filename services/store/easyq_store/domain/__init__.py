"""Records, transitions and decisions of the store: pure, without clock, ids, randomness or input and output."""
