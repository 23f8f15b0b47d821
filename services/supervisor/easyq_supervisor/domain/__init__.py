"""Pure parts of the supervisor: what the user asked for, what is started for it, and when it is started again."""
