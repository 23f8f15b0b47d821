"""The document: one operation for each way to call a method, and for each route that stands by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from easyq.v1 import job_service_pb2, spec_pb2
from easyq_gateway.codec.query import parameters
from easyq_gateway.http_rules import Binding, Variable, all_bindings
from easyq_gateway.openapi import byhand, errors, examples
from easyq_gateway.openapi.comments import Comments
from easyq_gateway.openapi.rules import Schema, is_required, keywords, rules_of
from easyq_gateway.openapi.schemas import Schemas
from easyq_gateway.places import Place

_ABOUT = (
    "EasyQ runs containers: each job is a container run, with retries, schedules and limits around it.\n\n"
    "Requests are JSON. Unknown fields and query parameters are refused; null is the same as leaving a field out; "
    "names of enums are taken in any case; no text may contain NUL. Answers show every field, null where it is unset. "
    "Later versions may add fields to answers.\n\n"
    "HEAD is served wherever GET is. The same calls are served as gRPC (`easyq.v1`)."
)
_KEY = "idempotency_key"


class Document:
    """Builds the document. Raises `TypeError` where a form of the codec's is not described."""

    def __init__(self, comments: Comments, *, version: str) -> None:
        self._comments = comments
        self._version = version
        self._schemas = Schemas(comments)
        self._paths: dict[str, Schema] = {}

    def build(self) -> Schema:
        """Returns the document as JSON has it."""
        bindings = all_bindings()
        for binding, number in _numbered(bindings):
            self._add(binding.segments, binding.verb, self._operation(binding, number))
        for hand, place, number in byhand.operations():
            self._add(place, "GET", self._by_hand(hand, place, number))
        error_body = self._schemas.shown(job_service_pb2.ErrorBody.DESCRIPTOR)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "EasyQ",
                "version": self._version,
                "summary": "A job queue in which every job is a container run.",
                "description": _ABOUT,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": self._tags(bindings),
            "paths": self._paths,
            "components": {
                "schemas": dict(sorted(self._schemas.components.items())),
                "responses": errors.responses(self._comments, error_body),
            },
        }

    def _add(self, segments: Iterable[str | Variable], verb: str, operation: Schema) -> None:
        self._paths.setdefault(template(segments), {})[verb.lower()] = operation

    def _tags(self, bindings: Iterable[Binding]) -> list[Schema]:
        services = {binding.method.containing_service.full_name: None for binding in bindings}
        told = {_tag(name): self._comments.get(name, "") for name in services}
        told["Log"] = "Output of containers."
        told["Event"] = "What changes, as it changes."
        told["Service"] = "The service itself."
        return [{"name": name, **({"description": words} if words else {})} for name, words in told.items()]

    # ------------------------------------------------------------------------------------------------ from annotations
    def _operation(self, binding: Binding, number: int) -> Schema:
        method = binding.method
        words = self._comments.get(method.full_name, "")
        made = {
            "operationId": _operation_id(method.name[:1].lower() + method.name[1:], number),
            "tags": [_tag(method.containing_service.full_name)],
            **_worded(words),
            "x-rpc": method.full_name,
            "parameters": [*self._path_parameters(binding), *self._query_parameters(binding), *self._key(binding)],
        }
        statuses = {*errors.ALWAYS, *errors.told_statuses(words)}
        if binding.body:
            made["requestBody"] = self._body(binding)
            statuses.update(errors.OF_BODY)
        answer = {"application/json": {"schema": self._schemas.shown(method.output_type)}}
        made["responses"] = {"200": {"description": "Done.", "content": answer}, **errors.references(statuses)}
        return made

    def _path_parameters(self, binding: Binding) -> Iterator[Schema]:
        for name in binding.variables:
            field = binding.method.input_type.fields_by_name[name]
            made = self._parameter(field, "path")
            made["schema"] = {"minLength": 1, **made["schema"]}
            yield {**made, "required": True, "example": examples.PATH_VALUES[name]}

    def _query_parameters(self, binding: Binding) -> Iterator[Schema]:
        if binding.body == "*":
            return
        yield from self._fields_in_query(binding.method.input_type, {*binding.variables, binding.body})

    def _fields_in_query(self, message: Descriptor, taken: Iterable[str]) -> Iterator[Schema]:
        for parameter in parameters(message, taken).values():
            made = self._parameter(parameter.field, "query")
            yield {**made, "required": True} if is_required(parameter.field) else made

    def _parameter(self, field: FieldDescriptor, place: str) -> Schema:
        schema = self._schemas.taken_field(field)
        if schema.get("type") == "boolean":
            schema = {"anyOf": [schema, {"type": "integer", "enum": [0, 1]}]}
        words = self._comments.get(field.full_name)
        made = {"name": field.json_name, "in": place, **({"description": words} if words else {}), "schema": schema}
        return {**made, "style": "form", "explode": True} if field.is_repeated else made

    def _key(self, binding: Binding) -> Iterator[Schema]:
        field = binding.method.input_type.fields_by_name.get(_KEY)
        if field is not None:
            yield {
                "name": "Idempotency-Key",
                "in": "header",
                "description": self._comments.get(field.full_name, ""),
                "schema": {"type": "string", **keywords(rules_of(field))},
                "example": "order-42",
            }

    def _body(self, binding: Binding) -> Schema:
        request: Any = binding.method.input_type
        descriptor: Descriptor = request if binding.body == "*" else request.fields_by_name[binding.body].message_type
        shown = examples.SPECS if descriptor is spec_pb2.JobSpec.DESCRIPTOR else examples.BODIES[descriptor.full_name]
        content = {
            "schema": self._schemas.taken(descriptor),
            "examples": {name: {"summary": words, "value": value} for name, (words, value) in shown.items()},
        }
        return {"required": True, "content": {"application/json": content}}

    # --------------------------------------------------------------------------------------------------------- by hand
    def _by_hand(self, hand: byhand.Hand, place: Place, number: int) -> Schema:
        answer: Schema = {"description": "Done.", "content": hand.content}
        if hand.data is not None:
            data = self._schemas.shown(hand.data)
            answer["content"] = {kind: {**one, "x-event-data": data} for kind, one in hand.content.items()}
        if hand.headers:
            answer["headers"] = hand.headers
        answers: dict[str, Any] = {**({"200": answer} if hand.content else {}), **hand.others}
        if hand.partial:
            ranged = {"Content-Range": {"description": "As `bytes 0-499/1234`.", "schema": {"type": "string"}}}
            answers["206"] = {**answer, "description": "A part.", "headers": {**hand.headers, **ranged}}
        fields = [segment.field for segment in place if isinstance(segment, Variable)]
        asked = () if hand.request is None else self._fields_in_query(hand.request, fields)
        return {
            "operationId": _operation_id(hand.name, number),
            "tags": [hand.tag],
            **_worded(hand.words),
            "x-rpc": hand.name,
            "parameters": [*(_place_parameter(field) for field in fields), *asked, *hand.parameters],
            "responses": {**answers, **errors.references((*errors.ALWAYS, *hand.errors))},
        }


def _place_parameter(field: str) -> Schema:
    head, *rest = field.split("_")
    name = head + "".join(part.capitalize() for part in rest)
    form = {"format": "uuid"} if field == "execution_id" else {"minLength": 1}
    schema = {"type": "string", **form}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": examples.PATH_VALUES[field]}


def _numbered(bindings: Iterable[Binding]) -> Iterator[tuple[Binding, int]]:
    """Yields bindings with their number among those of their method, from 0."""
    seen: dict[MethodDescriptor, int] = {}
    for binding in bindings:
        seen[binding.method] = number = seen.get(binding.method, -1) + 1
        yield binding, number


def template(segments: Iterable[str | Variable]) -> str:
    """Returns a path as OpenAPI writes it: `/tasks/{taskId}`."""
    parts = []
    for segment in segments:
        if isinstance(segment, Variable):
            head, *rest = segment.field.split("_")
            parts.append("{" + head + "".join(part.capitalize() for part in rest) + "}")
        else:
            parts.append(segment)
    return "/" + "/".join(parts)


def _operation_id(name: str, number: int) -> str:
    return f"{name}{number + 1}" if number else name


def _tag(service: str) -> str:
    return service.rpartition(".")[2].removesuffix("Service")


def _worded(words: str) -> Schema:
    """Returns summary and description of an operation."""
    summary = words.partition(". ")[0].partition("\n")[0].removesuffix(".")
    return {"summary": summary, "description": words} if words else {}
