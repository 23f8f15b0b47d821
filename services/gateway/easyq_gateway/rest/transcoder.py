"""REST calls → the same use cases as gRPC, by the protos' own annotations."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from aiohttp import web
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from easyq_chassis.errors import InvalidArgument
from easyq_gateway.codec.decode import decode, filler
from easyq_gateway.codec.encode import shower, to_json
from easyq_gateway.codec.json_text import Malformed, parse_json
from easyq_gateway.codec.query import BadQuery, Parameter, fill_from_query, parameters, split_query
from easyq_gateway.codec.scalars import check_text
from easyq_gateway.domain.problems import Problem, Problems
from easyq_gateway.gate import Gate
from easyq_gateway.http_rules import Binding
from easyq_gateway.openapi.examples import simplest
from easyq_gateway.rest.answers import json_answer
from easyq_gateway.rest.large import Large
from easyq_gateway.rest.requests import read_body, require_json, target_of

#: A use case: a request, and the problems that are known already → the response.
Call: TypeAlias = Callable[[Any, Sequence[Problem]], Awaitable[Message]]

_KEY_FIELD = "idempotency_key"


class Transcoder:
    """One binding, ready to serve. What the codec can't serve raises `TypeError` here, at the start."""

    def __init__(
        self, binding: Binding, call: Call, *, max_body: int, large: Large, requests: Gate, bodies: Gate
    ) -> None:
        self._call = call
        self._requests = requests
        self._bodies = bodies
        self._max_body = max_body
        self._large = large
        self._request_class: Any = GetMessageClass(binding.method.input_type)
        self._json_names = {field.name: field.json_name for field in binding.method.input_type.fields}
        self._body = binding.body
        taken = {*binding.variables, *([binding.body] if binding.body else [])}
        self._parameters: dict[str, Parameter] = {}
        if binding.body != "*":
            self._parameters = parameters(binding.method.input_type, taken)
        if binding.body:
            filler(binding.method.input_type)
        self._wanted = _wanted(binding)
        shower(binding.method.output_type)

    async def handle(self, request: web.BaseRequest, variables: dict[str, str]) -> web.StreamResponse:
        """Decodes, calls, encodes. Raises the error tree, and `Refused`."""
        message = self._request_class()
        problems = Problems()
        for field, value in variables.items():
            self._set_text(message, field, value, problems)
        self._read_query(request, message, problems)
        self._read_key(request, message, problems)
        if request.body_exists or self._body:
            with self._large.body(request.content_length, self._max_body):
                await self._read_body(request, message, problems)
        response = await self._call(message, problems)
        return json_answer(await self._large.run(partial(to_json, response), size=response.ByteSize()))

    def _set_text(self, message: Any, field: str, value: str, problems: Problems) -> None:
        text = check_text(value, self._json_names[field], problems)
        if text is not None:
            setattr(message, field, text)

    def _read_query(self, request: web.BaseRequest, message: Message, problems: Problems) -> None:
        try:
            pairs = split_query(target_of(request).query)
        except BadQuery as error:
            raise InvalidArgument(str(error)) from None
        fill_from_query(pairs, self._parameters, message, problems)

    def _read_key(self, request: web.BaseRequest, message: Any, problems: Problems) -> None:
        keys = request.headers.getall("Idempotency-Key", [])
        if not keys or _KEY_FIELD not in self._json_names:
            return
        if len(keys) > 1 or message.idempotency_key not in {"", keys[0]}:
            problems.add(self._json_names[_KEY_FIELD], "is given more than once, with different values")
            return
        self._set_text(message, _KEY_FIELD, keys[0], problems)

    async def _read_body(self, request: web.BaseRequest, message: Any, problems: Problems) -> None:
        # Who sends slowly must not keep those out who ask for something: a body on its way counts by itself.
        with self._bodies.entered(), self._requests.left():
            body = await read_body(request, self._max_body)
        if not body and not self._body:
            return
        if not body:
            raise InvalidArgument(f"the body is empty; {self._wanted}", reason="MALFORMED_BODY")
        require_json(request)
        try:
            await self._large.run(partial(self._decode, body, message, problems), size=len(body))
        except Malformed as error:
            raise InvalidArgument(f"the body {error}", reason="MALFORMED_BODY") from None

    def _decode(self, body: bytes, message: Any, problems: Problems) -> None:
        tree = parse_json(body)
        if not isinstance(tree, dict):
            raise Malformed("is not a JSON object")
        if self._body == "*":
            decode(tree, message, "", problems)
        elif self._body:
            part = getattr(message, self._body)
            part.SetInParent()
            decode(tree, part, self._json_names[self._body], problems)
        elif tree:
            problems.add("", "must be empty: this call takes no body")


def _wanted(binding: Binding) -> str:
    """What a body must be, with an example."""
    name = binding.method.input_type.full_name
    if binding.body and binding.body != "*":
        part = binding.method.input_type.fields_by_name[binding.body].message_type
        name = part.full_name if part is not None else ""
    example = simplest(name)
    return "it must be a JSON object" + (f", such as {json.dumps(example)}" if example else "")
