"""Decisions of the dispatcher, pure: time and state come in as arguments."""
