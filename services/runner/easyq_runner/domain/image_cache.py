"""Which images go when those that EasyQ has pulled take more room than they may."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedImage:
    """An image that this agent has pulled, and that was not on the host before."""

    image_id: str
    # As Docker shows them (`images.familiar`).
    references: frozenset[str]
    # Wall-clock milliseconds since the epoch.
    last_used: int
    # Bytes, with what it shares with others.
    size: int


Cache = Mapping[str, CachedImage]


def with_pulled(
    cache: Cache, *, image_id: str, reference: str, size: int, before: Collection[str], now: int
) -> dict[str, CachedImage]:
    """The cache after `reference` was pulled and stands for this image; `before` are the ids that the host had.

    What the host had and the cache does not know is somebody else's.
    """
    known = cache.get(image_id)
    moved = {key: replace(one, references=one.references - {reference}) for key, one in cache.items()}
    if known is None and image_id in before:
        return moved
    references = (known.references if known else frozenset()) | {reference}
    moved[image_id] = CachedImage(image_id=image_id, references=references, last_used=now, size=size)
    return moved


def with_use(cache: Cache, reference: str, *, now: int) -> dict[str, CachedImage]:
    """The cache after a container was made of what `reference` stands for."""
    return {key: replace(one, last_used=now) if reference in one.references else one for key, one in cache.items()}


def surplus(cache: Cache, *, limit: int, in_use: Collection[str]) -> list[CachedImage]:
    """What goes, the least recently used first, until the sum is at most `limit` bytes; never what is `in_use`."""
    excess = sum(one.size for one in cache.values()) - limit
    chosen: list[CachedImage] = []
    for one in sorted(cache.values(), key=lambda image: image.last_used):
        if excess <= 0:
            break
        if one.image_id not in in_use:
            chosen.append(one)
            excess -= one.size
    return chosen


def is_foreign(image: CachedImage, tags: Iterable[str]) -> bool:
    """Whether somebody else has given it a name, too."""
    return any(tag not in image.references for tag in tags)
