"""Operations that no annotation has: routes by hand, and pages. A route that is not told here fails a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from easyq_gateway.http_rules import Variable
from easyq_gateway.openapi.rules import Schema

Segments = tuple[str | Variable, ...]

_JOB: Segments = ("jobs", Variable("job_id"))
_TASK: Segments = ("tasks", Variable("task_id"))
_EXECUTION: Segments = ("executions", Variable("execution_id"))
_OUTPUT_PLACES: tuple[Segments, ...] = (
    (*_TASK, *_JOB, *_EXECUTION),
    (*_JOB, *_EXECUTION),
    _EXECUTION,
    (*_TASK, *_JOB),
    _JOB,
)

_TEXT: Schema = {"text/plain": {"schema": {"type": "string"}}}
_HTML: Schema = {"text/html": {"schema": {"type": "string"}}}


def _json(**properties: Schema) -> Schema:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"application/json": {"schema": schema}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hand:
    """A GET at one or several places. `parameters` are OpenAPI's; `errors` are statuses besides those of any call."""

    name: str
    tag: str
    places: tuple[Segments, ...]
    words: str
    content: Schema
    parameters: tuple[Schema, ...] = ()
    headers: Schema = field(default_factory=dict)
    partial: bool = False
    errors: tuple[int, ...] = ()


def _query(name: str, words: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": words, "schema": schema}


_OFFSET = _query("offset", "First byte wanted. Not together with a Range.", {"type": "integer", "minimum": 0})
_RANGE: Schema = {
    "name": "Range",
    "in": "header",
    "description": "Bytes wanted, as `bytes=0-499` or `bytes=-500`; the answer is 206. "
    "What is no such range is ignored.",
    "schema": {"type": "string"},
}


def _text_header(words: str, **more: object) -> Schema:
    return {"description": words, "schema": {"type": "string", **more}}


_OUTPUT_HEADERS: Schema = {
    "X-EasyQ-Execution-Id": _text_header("The execution whose output it is."),
    "X-EasyQ-State": _text_header("Its state."),
    "X-EasyQ-Logs-Complete": _text_header("Every byte up to the cap is stored.", enum=["true", "false"]),
    "X-EasyQ-Truncated": _text_header("Output beyond `logLimit` was dropped.", enum=["true", "false"]),
}
_NEWEST = "At a job's place: of its newest execution."


def _stored(stream: str) -> Hand:
    return Hand(
        name=f"get{stream.capitalize()}",
        tag="Log",
        places=tuple((*place, stream) for place in _OUTPUT_PLACES),
        words=f"The stored bytes of {stream}. {_NEWEST}",
        content=_TEXT,
        parameters=(_OFFSET, _RANGE),
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
        places=tuple((*place, "logs") for place in _OUTPUT_PLACES),
        words=f"The stored bytes of both streams, in the order in which they were stored. {_NEWEST}",
        content=_TEXT,
        headers=_OUTPUT_HEADERS,
        errors=(404, 409),
    ),
    Hand(
        name="streamLogs",
        tag="Log",
        places=tuple((*place, "stream") for place in _OUTPUT_PLACES),
        words="Both streams as they come, until the execution has ended; at a job's place: until the job has, with all "
        "its attempts.",
        content=_TEXT,
        errors=(404,),
    ),
    Hand(
        name="getHealth",
        tag="Service",
        places=(("healthcheck",),),
        words="200 while a job posted now would be accepted, else 503. Query parameters are ignored.",
        content=_json(status={"type": "string", "enum": ["SERVING"]}),
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


def places() -> Iterator[tuple[Hand, Segments, int]]:
    """Yields each place with the operation there, and its number among that operation's places, from 0."""
    for hand in BY_HAND:
        for number, place in enumerate(hand.places):
            yield hand, place, number
