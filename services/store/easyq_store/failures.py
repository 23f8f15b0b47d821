"""Kinds of `Unavailable` that a backend raises where waiting alone does not help. Nothing was written then."""

from easyq_chassis.errors import Unavailable


class DiskFull(Unavailable):
    """Nothing can be written until there is room on the disk again."""


class DatabaseGone(Unavailable):
    """The database was taken away from under the running store: only a start anew can help."""
