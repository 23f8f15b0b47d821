"""Where two specs differ, as paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from easyq_gateway.domain.problems import key_path, member_path


def differing(one: object, other: object, path: str, maps: frozenset[str]) -> Iterator[str]:
    """Yields the paths at which two JSON-like values differ.

    Members of objects are followed; `maps` holds the member names whose objects have free keys, written `envs["A"]`.
    Lists are compared as a whole.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        name = path.rpartition(".")[2]
        for key in [*one, *(key for key in other if key not in one)]:
            below = key_path(path, key) if name in maps else member_path(path, key)
            if key not in one or key not in other:
                yield below
            else:
                yield from differing(one[key], other[key], below, maps)
    elif one != other or isinstance(one, bool) != isinstance(other, bool):
        yield path
