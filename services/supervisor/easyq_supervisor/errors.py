"""What keeps the system from starting."""

from __future__ import annotations


class StartError(Exception):
    """The system can't be started; the message says why, and what to do, in a line."""
