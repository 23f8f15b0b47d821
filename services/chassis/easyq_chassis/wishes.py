"""When two requests for a job are the same: the gateway tells what differs, the store replaces where something does.

A request is compared by what it asked for and by what that came to with the defaults of its time. A field differs only
if it does in both: neither defaults that are others meanwhile make another request, nor a default that is spelled out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from easyq.v1.spec_pb2 import Backoff, JobSpec, Resources

# Compared member by member: what is in them counts, and not that they are there.
_FOLLOWED = frozenset({Backoff.DESCRIPTOR.full_name, Resources.DESCRIPTOR.full_name})


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One request for a job."""

    # As the client sent it, without any default.
    asked: JobSpec
    # With every default.
    spec: JobSpec


def wish(asked: bytes, spec: JobSpec) -> Wish:
    """Returns a request out of its serialized spec and the resolved one; the other stands for one that is not told."""
    told = JobSpec.FromString(asked) if asked else spec
    return Wish(asked=told, spec=spec if spec.ListFields() else told)


def differences(one: Wish, other: Wish) -> tuple[JobSpec, JobSpec]:
    """Returns what either asked for, of the fields that differ and nothing else: both empty for the same request."""
    asked, known = JobSpec(), JobSpec()
    asked.CopyFrom(one.asked)
    known.CopyFrom(other.asked)
    _drop_alike(asked, known, one.spec, other.spec)
    return asked, known


def same(one: Wish, other: Wish) -> bool:
    """Whether the two ask for the same."""
    return not any(left.ListFields() for left in differences(one, other))


def _drop_alike(asked: Any, known: Any, spec: Any, known_spec: Any) -> None:
    # What neither asked for differs by its default at most.
    for field in {field.number: field for field, _ in (*asked.ListFields(), *known.ListFields())}.values():
        if field.message_type is not None and field.message_type.full_name in _FOLLOWED:
            parts = [getattr(message, field.name) for message in (asked, known, spec, known_spec)]
            _drop_alike(*parts)
            alike = not any(part.ListFields() for part in parts[:2])
        else:
            alike = _alike(asked, known, field) or _alike(spec, known_spec, field)
        for message in (asked, known):
            if alike:
                message.ClearField(field.name)
            elif field.message_type is not None and field.message_type.full_name in _FOLLOWED:
                # Told by its members, where the other has none of it.
                getattr(message, field.name).SetInParent()


def _alike(one: Any, other: Any, field: FieldDescriptor) -> bool:
    if field.has_presence and one.HasField(field.name) != other.HasField(field.name):
        return False
    return bool(getattr(one, field.name) == getattr(other, field.name))
