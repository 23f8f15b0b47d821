"""Connections as the store needs them."""

import sqlite3
from pathlib import Path

# Pages of the log after which a commit copies them into the database; a page has 4 KiB.
_CHECKPOINT_PAGES = 4_000
_CACHE_KIB = 32_768


def connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    """Opens the database; with `writes`, every commit is on disk before it returns.

    The connection is used by one thread at a time, though not always by the same.
    """
    connection = sqlite3.connect(
        path, timeout=10.0, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if writes:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    else:
        connection.execute("PRAGMA query_only = ON")
    return connection
