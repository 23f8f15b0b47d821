"""SQLite's errors as ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from easyq_chassis.errors import EasyQError, Internal, Unavailable


def translated(error: sqlite3.Error) -> EasyQError:
    """What a caller may see. A full disk, a missing folder and their like may pass; a corrupt file won't."""
    ours: EasyQError
    if isinstance(error, sqlite3.OperationalError):
        ours = Unavailable(f"the database can't be used: {error}")
    else:
        ours = Internal(f"the database failed: {error}")
    ours.__cause__ = error
    return ours


@contextmanager
def translating() -> Iterator[None]:
    """Raises SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error
