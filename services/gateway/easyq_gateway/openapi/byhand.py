"""Operations that no annotation has: routes by hand, and pages. A route that is not told here fails a test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor

from easyq.v1.event_service_pb2 import Event, WatchRequest
from easyq_gateway import places
from easyq_gateway.openapi import forms
from easyq_gateway.openapi.rules import Schema
from easyq_gateway.places import Place

_TEXT: Schema = {"text/plain": {"schema": {"type": "string"}}}
_HTML: Schema = {"text/html": {"schema": {"type": "string"}}}
_SSE: Schema = {"text/event-stream": {"schema": {"type": "string"}}}


def _json(**properties: Schema) -> Schema:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"application/json": {"schema": schema}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hand:
    """A GET at one or several places. `parameters` are OpenAPI's; the fields of the message `request` are some too, but
    for those that the place has. `data` is what its events hold, as JSON. `others` are answers without a body, `errors`
    statuses besides those of any call.
    """

    name: str
    tag: str
    places: tuple[Place, ...]
    words: str
    content: Schema
    data: Descriptor | None = None
    request: Descriptor | None = None
    parameters: tuple[Schema, ...] = ()
    headers: Schema = field(default_factory=dict)
    partial: bool = False
    others: Schema = field(default_factory=dict)
    errors: tuple[int, ...] = ()


def _query(name: str, words: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": words, "schema": schema}


_OFFSET = _query("offset", "First byte wanted. Not together with a Range.", {"type": "integer", "minimum": 0})


def _header(name: str, words: str) -> Schema:
    return {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}


def _flag(name: str, words: str) -> Schema:
    return _query(name, words, {"anyOf": [{"type": "boolean"}, {"type": "integer", "enum": [0, 1]}]})


_RANGE = _header(
    "Range", "Bytes wanted, as `bytes=0-499` or `bytes=-500`; the answer is 206. What is no such range is ignored."
)
# Which part of the output.
_LINES: Schema = {"type": "integer", "minimum": 0, "maximum": 100_000}
_PART: tuple[Schema, ...] = (
    _query(
        "tail",
        "The last so many lines that are stored, of both streams together; of live output 0: only what comes. "
        "At most 8 MiB are looked through.",
        {"anyOf": [_LINES, {"type": "string", "enum": ["all"]}]},
    ),
    _query(
        "since",
        "From the line on in which the first byte that was stored since then stands: a duration back from now, "
        "unix seconds, or a time in RFC 3339.",
        {"anyOf": [*forms.TIMESTAMP_TAKEN["anyOf"], forms.duration_taken({})["anyOf"][0]]},
    ),
    _flag("timestamps", "Each line begins with the time at which its first byte was stored."),
)
_DOWNLOAD = _flag("download", "To be saved as a file.")
_POSITION = "Where to go on: the id of the last event that was read. `tail` and `since` then don't count."
_FROM = _query("from", _POSITION, {"type": "string"})
_LAST_LOG = _header("Last-Event-ID", f"{_POSITION} Stronger than `from`.")


def _text_header(words: str, **more: object) -> Schema:
    return {"description": words, "schema": {"type": "string", **more}}


_OUTPUT_HEADERS: Schema = {
    "X-EasyQ-Execution-Id": _text_header("The execution whose output it is."),
    "X-EasyQ-State": _text_header("Its state."),
    "X-EasyQ-Logs-Complete": _text_header("Every byte up to the cap is stored.", enum=["true", "false"]),
    "X-EasyQ-Truncated": _text_header("Output beyond `logLimit` was dropped.", enum=["true", "false"]),
}
_NEWEST = "At a job's place: of its newest execution."


def _below(found: Iterable[Place], name: str) -> tuple[Place, ...]:
    return tuple((*place, name) for place in found)


def _stored(stream: str) -> Hand:
    return Hand(
        name=f"get{stream.capitalize()}",
        tag="Log",
        places=_below(places.OUTPUT, stream),
        words=f"The stored bytes of {stream}. {_NEWEST}",
        content=_TEXT,
        parameters=(_OFFSET, _RANGE, *_PART, _DOWNLOAD),
        headers={**_OUTPUT_HEADERS, "Accept-Ranges": _text_header("`bytes`.")},
        partial=True,
        errors=(404, 409, 416),
    )


#: All of them.
BY_HAND: tuple[Hand, ...] = (
    _stored("stdout"),
    _stored("stderr"),
    Hand(
        name="getLogs",
        tag="Log",
        places=_below(places.OUTPUT, "logs"),
        words=f"The stored bytes of both streams, in the order in which they were stored. {_NEWEST}",
        content=_TEXT,
        parameters=(*_PART, _DOWNLOAD),
        headers=_OUTPUT_HEADERS,
        errors=(404, 409),
    ),
    Hand(
        name="streamLogs",
        tag="Log",
        places=_below(places.OUTPUT, "stream"),
        words="Both streams as they come, until the execution has ended; at a job's place: until the job has, with all "
        "its attempts. What is stored comes first.",
        content={**_TEXT, **_SSE},
        parameters=(
            *_PART,
            _FROM,
            _LAST_LOG,
            _query(
                "format",
                "`text`, or `sse`: Server-Sent Events, also by `Accept: text/event-stream`.",
                {"type": "string", "enum": ["text", "sse"]},
            ),
            _DOWNLOAD,
        ),
        others={"204": {"description": "Server-Sent Events: the reader has had all of it."}},
        errors=(404, 409),
    ),
    Hand(
        name="followLogs",
        tag="Log",
        places=_below(places.OUTPUT, "ws"),
        words="The same over WebSocket: events as JSON in text frames.",
        content={},
        parameters=(
            *_PART,
            _FROM,
            _LAST_LOG,
            _flag(
                "binary",
                "Output comes in binary frames: a byte for the stream (1, 2), eight for the offset, the bytes.",
            ),
        ),
        others={"101": {"description": "The connection speaks WebSocket from here on."}},
        errors=(404, 409, 426),
    ),
    Hand(
        name="watch",
        tag="Event",
        places=_below(places.EVENTS, "events"),
        words="Changes as Server-Sent Events, until the caller has enough: of the farm, of a task's jobs, or of a job. "
        "The present state of a job, and of what is open of a task, comes first. The data of each is an `Event`.",
        content=_SSE,
        data=Event.DESCRIPTOR,
        request=WatchRequest.DESCRIPTOR,
        parameters=(_header("Last-Event-ID", "As `lastEventId`, and stronger."),),
        errors=(404,),
    ),
    Hand(
        name="getHealth",
        tag="Service",
        places=(("healthcheck",),),
        words="200 while a job posted now would be accepted, else 503. DEGRADED: something else is wrong, as "
        "`problems` of `GET /status` says; here in words alone. It waits one second at most for other services than "
        "the store, so that it may not know yet what one that hangs would say. Query parameters are ignored.",
        content=_json(
            status={"type": "string", "enum": ["SERVING", "DEGRADED"]},
            problems={"type": "array", "items": {"type": "string"}},
        ),
    ),
    Hand(
        name="getMetrics",
        tag="Service",
        places=(("metrics",),),
        words="The gateway's own metrics, for Prometheus: OpenMetrics if that is accepted, else its text format.",
        content={"text/plain": {"schema": {"type": "string"}}},
    ),
    Hand(
        name="getRoot",
        tag="Service",
        places=(("",),),
        words="Who this is.",
        content=_json(name={"type": "string"}, version={"type": "string"}, status={"type": "string"}),
    ),
    Hand(
        name="getOpenapi",
        tag="Service",
        places=(("openapi.json",),),
        words="This document.",
        content={"application/json": {"schema": {"type": "object"}}},
    ),
    Hand(name="getDocs", tag="Service", places=(("docs",),), words="This document as a page.", content=_HTML),
    Hand(
        name="getDocsStyle",
        tag="Service",
        places=(("docs", "style.css"),),
        words="The page's style.",
        content={"text/css": {"schema": {"type": "string"}}},
    ),
)


def operations() -> Iterator[tuple[Hand, Place, int]]:
    """Yields each operation with one of its places, and that place's number among them, from 0."""
    for hand in BY_HAND:
        for number, place in enumerate(hand.places):
            yield hand, place, number
