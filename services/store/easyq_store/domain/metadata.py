"""Metadata as lists find jobs by it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Of one job; what is more, or longer (bytes), is not found.
MOST_TERMS = 64
MOST_BYTES = 512


def terms(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Each text, number and truth value as `path=value`, sorted, each once; the path's names joined by dots.

    What stands in a list has the list's own path. Numbers and truth values are spelled as in JSON.
    """
    found: set[str] = set()
    for term in _walk("", metadata):
        if len(term.encode()) <= MOST_BYTES:
            found.add(term)
        if len(found) == MOST_TERMS:
            break
    return tuple(sorted(found))


def _walk(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _walk(f"{path}.{key}" if path else key, value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _walk(path, item)
    elif value is not None:
        yield f"{path}={_spelled(value)}"


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value
    # Every number of metadata is a float.
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value)
