"""Comparing the index with the store. Neither is read at one instant, so differences are suspects, not findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspects:
    """`extra` count in the index and were not listed by the store; `missing` are held and do not count."""

    extra: tuple[Place, ...]
    missing: tuple[str, ...]


def suspects(places: Sequence[Place], held: Iterable[HeldExecution]) -> Suspects:
    """Compares places, read first, with what the store listed after that.

    A place that is not confirmed may be an Assign under way, so it is left to the search for orphaned takes.
    """
    held_ids = {item.execution_id for item in held}
    known = {place.execution_id for place in places}
    return Suspects(
        extra=tuple(place for place in places if place.confirmed and place.execution_id not in held_ids),
        missing=tuple(sorted(held_ids - known)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Repairs:
    """What the index has to be told: takes that hold, places to leave, places to give, heads to queue."""

    confirm: tuple[Place, ...]
    drop: tuple[Place, ...]
    adopt: tuple[HeldExecution, ...]
    ready: tuple[Head, ...]


def repairs(places: Iterable[Place], answers: Iterable[Fenced]) -> Repairs:
    """What follows the store's answers on suspects, `places` being those that have a place.

    Its word came after a fence, so an Assign of an older epoch can't contradict it later. A place is left only by its
    token; an execution that was taken again meanwhile keeps the newer one.
    """
    by_id = {place.execution_id: place for place in places}
    confirm, drop, adopt, ready = [], [], [], []
    for answer in answers:
        place = by_id.get(answer.execution_id)
        if answer.ready:
            ready.append(answer.ready)
        if answer.held and not place:
            adopt.append(answer.held)
        elif answer.held and place and not place.confirmed:
            confirm.append(place)
        elif place and not answer.held:
            drop.append(place)
    return Repairs(confirm=tuple(confirm), drop=tuple(drop), adopt=tuple(adopt), ready=tuple(ready))
