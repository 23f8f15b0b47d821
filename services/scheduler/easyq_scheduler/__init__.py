"""The scheduler: admits jobs that have a time, fires what is due, ends what has waited too long."""
