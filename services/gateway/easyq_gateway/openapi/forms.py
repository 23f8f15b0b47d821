"""Forms that REST takes and shows for what JSON has no type for, as the codec reads and writes them."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from easyq_gateway.codec import flavours
from easyq_gateway.codec.scalars import Reader
from easyq_gateway.codec.wellknown import EARLIEST, LATEST
from easyq_gateway.openapi.rules import Schema

TIMESTAMP = Timestamp.DESCRIPTOR.full_name
DURATION = Duration.DESCRIPTOR.full_name
STRUCT = Struct.DESCRIPTOR.full_name

_NUMBER = r"[0-9]+(\.[0-9]+)?"
# Each unit once, the largest first; or a bare number of seconds.
_DURATION = r"^ *(?=[0-9])" + "".join(f"({_NUMBER}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms")) + r" *$"
_BARE = r"^ *[0-9]{1,20}(\.[0-9]{1,20})? *$"
_SIZE = r"^ *[0-9]{1,20}(\.[0-9]{1,20})? *[bkmgBKMG]? *$"

#: What is shown.
SHOWN: dict[str, Schema] = {
    TIMESTAMP: {"type": "string", "format": "date-time", "description": "UTC with milliseconds."},
    DURATION: {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{3})?s$", "description": "Seconds: `9050s`, `1.500s`."},
    STRUCT: {"type": "object", "additionalProperties": True},
}

#: What is taken, for bounds in seconds (of durations).
TIMESTAMP_TAKEN: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time", "description": "RFC 3339, with an offset."},
        {"type": "number", "minimum": EARLIEST, "exclusiveMaximum": LATEST + 1, "description": "Unix seconds."},
    ]
}
STRUCT_TAKEN: Schema = {"type": "object", "additionalProperties": True}


def duration_taken(bounds: Schema) -> Schema:
    """Returns the form of a duration whose seconds keep within `bounds`."""
    least = {} if "exclusiveMinimum" in bounds else {"minimum": 0}
    return {
        "anyOf": [
            {"type": "string", "pattern": _DURATION, "description": "As `2h30m50s`: units w, d, h, m, s, ms."},
            {"type": "string", "pattern": _BARE, "description": "Seconds."},
            {"type": "number", **least, **bounds, "description": "Seconds."},
        ]
    }


def _command(own: Schema) -> Schema:
    whole = {"type": "string", "description": "Split as a POSIX shell would split it; no shell runs."}
    return {"anyOf": [whole, own]}


def _size(own: Schema) -> Schema:
    words = "Bytes, or with b, k, m or g (powers of 1024): `512m`."
    return {"anyOf": [own, {"type": "string", "pattern": _SIZE, "description": words}]}


def _env(own: Schema) -> Schema:
    return {"anyOf": [own, {"type": "number"}, {"type": "boolean"}]}


_OF_READER: dict[Reader, Any] = {
    flavours.read_command: _command,
    flavours.read_size: _size,
    flavours.read_env: _env,
}


def taken_by(reader: Reader, own: Schema) -> Schema:
    """Returns what one of `codec.flavours`' readers takes. Raises `TypeError` for one that nothing is known of."""
    form = _OF_READER.get(reader)
    if form is None:
        raise TypeError(f"{reader}: its form is not described in openapi/forms.py")
    made: Schema = form(own)
    return made
