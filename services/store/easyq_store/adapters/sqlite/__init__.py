"""SQLite behind the persistence port: one process, one writer with group commit, readers beside it."""

from easyq_store.adapters.sqlite.persistence import SqlitePersistence

__all__ = ["SqlitePersistence"]
