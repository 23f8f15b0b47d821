"""What of the farm's status can't be told now: 0 and "all is well" are claims, and not made of what nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from easyq_gateway.domain.status import ServiceFacts

#: What a dispatcher that can't ask Redis does not know of what it tells.
BLIND = ("pools.running", "pools.ready", "limits.running", "breakers")
_MATCHED = ("pools", "limits", "breakers")
#: All that may be unknown.
FIELDS = frozenset({"jobs", "agents", *_MATCHED, *BLIND})


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A field of the status (`jobs`, `pools`, `pools.ready`, …), and why it is not known."""

    field: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """Who told something: of `jobs` and `agents` the store, of the rest a dispatcher. `blind`: why none of those that
    answered can ask Redis; empty: one can; None: none has answered."""

    jobs: bool
    agents: bool
    blind: str | None


def find_gaps(services: Sequence[ServiceFacts], heard: Heard) -> Iterator[Gap]:
    """Yields what is not known."""
    store = next((service for service in services if service.kind == "store"), None)
    if not heard.jobs:
        yield Gap(field="jobs", why=_store_words(store))
    if not heard.agents:
        yield Gap(field="agents", why=_store_words(store))
    elif store is not None and not store.healthy:
        # It may still tell what it knew; who beats since then is not written down.
        yield Gap(field="agents", why=f"{_store_words(store)}, and keeps no beats")
    if heard.blind is None:
        yield from (Gap(field=field, why="no dispatcher answers") for field in _MATCHED)
    elif heard.blind:
        yield from blind_gaps(heard.blind)


def blind_gaps(why: str) -> Iterator[Gap]:
    """Yields what is not known where no dispatcher can ask Redis, and `why` it can't."""
    yield from (Gap(field=field, why=f"Redis can't be asked ({why})") for field in BLIND)


def _store_words(store: ServiceFacts | None) -> str:
    if store is not None and store.answers and not store.healthy:
        return "the store can't do its work"
    return "the store does not answer"
