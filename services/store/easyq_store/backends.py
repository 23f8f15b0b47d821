"""Chooses the database by its URL; only the one that is chosen is imported."""

from pathlib import Path

from easyq_store.ports import Persistence


def persistence(url: str) -> Persistence:
    """The database, closed. `url` is one that the settings allow."""
    if url.startswith("sqlite:///"):
        from easyq_store.adapters.sqlite import SqlitePersistence

        return SqlitePersistence(Path(url.removeprefix("sqlite:///")))
    from easyq_store.adapters.mongo import MongoPersistence

    return MongoPersistence(url)
