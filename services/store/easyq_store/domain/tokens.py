"""Page tokens: opaque to callers, bound to the filters of their list."""

import base64
import binascii
import hashlib
import json

from easyq_chassis.errors import FieldProblem, InvalidArgument

_VERSION = 1


def encode(filters: object, place: list[str | int]) -> str:
    """A token that goes on after `place`. `filters` is anything whose repr tells two lists apart."""
    body = json.dumps([_VERSION, _bound(filters), *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode(token: str, filters: object, shape: tuple[type, ...]) -> list[str | int] | None:
    """The place in a token, of this shape; None for the empty token.

    Raises InvalidArgument naming `pageToken` for one that is not ours, or belongs to other filters.
    """
    if not token:
        return None
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _wrong("is not a token of this list") from error
    if not isinstance(body, list) or len(body) != 2 + len(shape) or body[0] != _VERSION:
        raise _wrong("is not a token of this list")
    if body[1] != _bound(filters):
        raise _wrong("belongs to a list with other filters")
    place = body[2:]
    if not all(_fits(part, kind) for part, kind in zip(place, shape, strict=True)):
        raise _wrong("is not a token of this list")
    return place


def _fits(part: object, kind: type) -> bool:
    """Whether a database takes it: 64 bits of a number, text that is Unicode."""
    if type(part) is not kind:
        return False
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return isinstance(part, str) and part.isprintable()


def _bound(filters: object) -> str:
    return hashlib.sha256(repr(filters).encode()).hexdigest()[:16]


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(f"pageToken: {what}", fields=[FieldProblem(field="pageToken", message=what)])
