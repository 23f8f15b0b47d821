"""Pure decisions of the scheduler: what is admitted, and when to look again."""
