"""Writes docs/reference/api.md, types.md and errors.md: the API as the protos, their comments and rules tell it.

`--check` writes nothing and fails where a committed page is stale.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import docs_pages
from docs_pages import TEMPLATES, code, filled, table, text
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor

from easyq.v1 import (
    error_reason_pb2,
    event_service_pb2,
    execution_service_pb2,
    farm_service_pb2,
    job_pb2,
    job_service_pb2,
    log_service_pb2,
    notification_service_pb2,
    notify_pb2,
    spec_pb2,
    stats_pb2,
    task_service_pb2,
)
from easyq_gateway.http_rules import FILES, Binding, bindings
from easyq_gateway.openapi import byhand, errors
from easyq_gateway.openapi.comments import load_comments
from easyq_gateway.openapi.document import template
from easyq_gateway.openapi.rules import is_required, keywords, rules_of, second_bounds

_SERVICES: tuple[FileDescriptor, ...] = (
    job_service_pb2.DESCRIPTOR,
    execution_service_pb2.DESCRIPTOR,
    task_service_pb2.DESCRIPTOR,
    farm_service_pb2.DESCRIPTOR,
    log_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    notification_service_pb2.DESCRIPTOR,
)
_FILES = (
    *_SERVICES,
    job_pb2.DESCRIPTOR,
    spec_pb2.DESCRIPTOR,
    notify_pb2.DESCRIPTOR,
    stats_pb2.DESCRIPTOR,
    error_reason_pb2.DESCRIPTOR,
)
_KNOWN = {
    "google.protobuf.Timestamp": "time",
    "google.protobuf.Duration": "duration",
    "google.protobuf.Struct": "object",
}
_SCALARS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
}
# Where the document's own words speak of the document.
_OWN_WORDS = {
    "getOpenapi": "The API as OpenAPI 3.1, for programs.",
    "getDocs": "The same as a page.",
    "getDocsStyle": "That page's style.",
}
_COMMENTS = load_comments()


def pages() -> dict[str, str]:
    """Returns each page by its name."""
    parts = {"calls": _calls(), "types": _types(), **_errors()}
    return {name: filled(name, parts) for name in ("api.md", "types.md", "errors.md")}


def _words(name: str) -> str:
    return text(_COMMENTS.get(name, ""))


# ------------------------------------------------------------------------------------------------------------- calls
def _calls() -> str:
    parts = []
    for file in _SERVICES:
        for service in file.services_by_name.values():
            told = _words(service.full_name)
            parts.append(f"## {service.name}\n" + (f"\n{told}\n" if told else ""))
            parts += [_method(method, rest=file in FILES) for method in service.methods]
    parts.append(_by_hand())
    return "\n".join(parts)


def _method(method: MethodDescriptor, *, rest: bool) -> str:
    ways = list(bindings(method)) if rest else []
    lines = [f"### {method.name}\n"]
    lines += [f"`{way.verb} {template(way.segments)}`<br>" for way in ways]
    streams = f"{'stream ' if method.client_streaming else ''}", f"{'stream ' if method.server_streaming else ''}"
    request, answer = method.input_type, method.output_type
    lines.append(f"gRPC: `{method.full_name}({streams[0]}{request.name}) → {streams[1]}{answer.name}`\n")
    lines.append(f"{_words(method.full_name)}\n")
    if request.fields:
        lines.append(_request(request, ways[0] if ways else None))
    lines.append(_answer(answer))
    return "\n".join(lines)


def _request(message: Descriptor, way: Binding | None) -> str:
    rows = []
    for field in message.fields:
        place = (_place(field, way),) if way else ()
        rows.append((f"`{field.json_name}`", *place, _form(field), _meaning(field)))
    return table(("request", *(("in",) if way else ()), "form", "meaning"), rows)


def _place(field: FieldDescriptor, way: Binding) -> str:
    if field.name in way.variables:
        return "path"
    if way.body in {"*", field.name}:
        return "body" if way.body == "*" else "the body"
    return "query, or the header `Idempotency-Key`" if field.name == "idempotency_key" else "query"


def _answer(message: Descriptor) -> str:
    if not _is_own(message):
        return f"Answers with {_link(message)}.\n"
    if not message.fields:
        return "The answer is empty.\n"
    return table(("answer", "form", "meaning"), [_shown(field) for field in message.fields])


def _shown(field: FieldDescriptor) -> tuple[str, str, str]:
    return f"`{field.json_name}`", _form(field), _words(field.full_name)


def _is_own(message: Descriptor) -> bool:
    return message.name.endswith(("Request", "Response")) and message.containing_type is None


def _by_hand() -> str:
    parts = ["## By HTTP alone\n\nWhat can't be said by a gRPC annotation: output, events, and the service itself.\n"]
    for hand in byhand.BY_HAND:
        lines = [f"### {hand.name}\n"]
        lines.append("<br>\n".join(f"`GET {template(place)}`" for place in hand.places) + "\n")
        kinds = ", ".join(f"`{kind}`" for kind in hand.content)
        lines.append(f"{_OWN_WORDS.get(hand.name) or text(hand.words)} {f'Answers with {kinds}.' if kinds else ''}\n")
        rows = [(f"`{one['name']}`", one["in"], text(one["description"])) for one in hand.parameters]
        if hand.request is not None:
            known = {segment.field for place in hand.places for segment in place if not isinstance(segment, str)}
            own = [field for field in hand.request.fields if field.name not in known]
            rows = [(f"`{field.json_name}`", "query", _meaning(field)) for field in own] + rows
        lines.append(table(("parameter", "in", "meaning"), rows))
        refused = ", ".join(f"{status}" for status in hand.errors)
        lines.append(f"Refused with {refused}: see [Errors](errors.md#statuses).\n" if refused else "")
        parts.append("\n".join(line for line in lines if line))
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------------------- types
def _types() -> str:
    messages = sorted((one for file in _FILES for one in _messages(file)), key=lambda one: one.full_name)
    parts = []
    for message in messages:
        if not _is_own(message) and message.fields:
            parts.append(_message(message))
        parts += [_enum(enum) for enum in sorted(message.enum_types, key=lambda one: one.name)]
    return "\n".join(part for part in parts if part)


def _messages(file: FileDescriptor) -> Iterator[Descriptor]:
    pending = list(file.message_types_by_name.values())
    while pending:
        message = pending.pop(0)
        if not message.GetOptions().map_entry:
            yield message
            pending += message.nested_types


def _message(message: Descriptor) -> str:
    rows = [(f"`{field.json_name}`", _form(field), _meaning(field)) for field in message.fields]
    return f"## {_name(message)}\n\n{_words(message.full_name)}\n\n" + table(("field", "form", "meaning"), rows)


def _enum(enum: EnumDescriptor) -> str:
    if enum is error_reason_pb2.ErrorReason.DESCRIPTOR.enum_types_by_name["Code"]:
        return ""
    holder: Any = enum.containing_type
    told = _words(enum.full_name) or _words(holder.full_name)
    rows = [(f"`{value.name}`", _words(f"{enum.full_name}.{value.name}")) for value in enum.values if value.number]
    return f"## {_name(enum)}\n\n{told}\n\n" + table(("value", "meaning"), rows)


# ------------------------------------------------------------------------------------------------------------- fields
def _name(thing: Descriptor | EnumDescriptor) -> str:
    return str(thing.full_name.removeprefix("easyq.v1."))


def _link(thing: Descriptor | EnumDescriptor) -> str:
    name = _name(thing)
    if isinstance(thing, Descriptor) and _is_own(thing):
        return f"`{name}`"
    return f"[{name}](types.md#{name.lower().replace('.', '')})"


def _form(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return f"map of text to {_value(field.message_type.fields_by_name['value'])}"
    return f"list of {_value(field)}" if field.is_repeated else _value(field)


def _value(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return _link(field.enum_type)
    if field.message_type is not None:
        return _KNOWN.get(field.message_type.full_name) or _link(field.message_type)
    return _SCALARS[field.type]


def _meaning(field: FieldDescriptor) -> str:
    """Returns the comment of a request's field, and the rules that are checked for it."""
    found = "; ".join(_limits(field))
    words = _words(field.full_name)
    return f"{words}{' ' if words else ''}*{found}*" if found else words


def _limits(field: FieldDescriptor) -> Iterator[str]:
    rules = rules_of(field)
    if is_required(field):
        yield "Required"
    if rules.string.HasField("max_len"):
        # The schema's word for both: characters, and bytes.
        yield f"at most {_number(rules.string.max_len)} characters"
    else:
        yield from _said(keywords(rules), "")
    yield from _said(second_bounds(rules), " s")
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        yield from (f"each: {one}" for one in _said(keywords(rules.repeated.items), ""))
    if kind == "map":
        yield from (f"names: {one}" for one in _said(keywords(rules.map.keys), ""))
        yield from (f"values: {one}" for one in _said(keywords(rules.map.values), ""))


def _said(words: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Yields keywords of JSON Schema in words."""
    least, most = words.get("minimum"), words.get("maximum")
    if least is not None and most is not None:
        yield f"{_number(least)} to {_number(most)}{unit}"
    elif least is not None:
        yield f"at least {_number(least)}{unit}"
    elif most is not None:
        more = words.get("exclusiveMinimum")
        yield (f"more than {_number(more)}, " if more is not None else "") + f"at most {_number(most)}{unit}"
    if words.get("maxLength") is not None:
        yield f"at most {_number(words['maxLength'])} bytes"
    if words.get("maxItems") is not None:
        yield f"at most {_number(words['maxItems'])}"
    if words.get("maxProperties") is not None:
        yield f"at most {_number(words['maxProperties'])}"
    if words.get("pattern") is not None:
        yield f"matches {code(words['pattern'])}"
    if words.get("format") is not None:
        yield f"a {str(words['format']).upper()}"


def _number(value: Any) -> str:
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


# ------------------------------------------------------------------------------------------------------------- errors
def _errors() -> dict[str, str]:
    advice = tomllib.loads((TEMPLATES / "advice.toml").read_text(encoding="utf-8"))
    return {
        "statuses": table(("status", "code", "meaning", "reasons"), map(_status, errors.KINDS)),
        "reasons": _advised(error_reason_pb2.ErrorReason.DESCRIPTOR.enum_types_by_name["Code"], advice["refused"]),
        "failures": _advised(job_pb2.Failure.DESCRIPTOR.enum_types_by_name["Reason"], advice["failed"]),
        "waits": _advised(job_pb2.Waiting.DESCRIPTOR.enum_types_by_name["Reason"], advice["waits"]),
    }


def _status(kind: errors.Kind) -> tuple[str, str, str, str]:
    codes, reasons = (", ".join(f"`{name}`" for name in names) for names in (kind.codes, kind.reasons))
    return str(kind.status), codes, text(kind.words), reasons


def _advised(enum: EnumDescriptor, advice: Mapping[str, str]) -> str:
    known = [value.name for value in enum.values if value.number]
    if sorted(known) != sorted(advice):
        raise SystemExit(f"scripts/reference/advice.toml, {enum.full_name}: {sorted(set(known) ^ set(advice))}")
    rows = [(f"`{value}`", _words(f"{enum.full_name}.{value}") or _plain(value), advice[value]) for value in known]
    return table(("reason", "meaning", "what to do"), rows)


def _plain(value: str) -> str:
    """Returns the words of a reason whose name is its comment: `JOB_NOT_FOUND`."""
    thing = value.removesuffix("_NOT_FOUND").lower()
    return f"There is no such {thing}."


if __name__ == "__main__":
    sys.exit(docs_pages.main(pages))
