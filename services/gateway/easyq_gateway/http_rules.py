"""REST as the protos define it: each method's `google.api.http` option as a binding, and bindings as URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import (
    execution_service_pb2,
    farm_service_pb2,
    job_service_pb2,
    notification_service_pb2,
    task_service_pb2,
)
from easyq_gateway.codec.wellknown import show_timestamp

#: The files whose services are served as REST.
FILES: tuple[FileDescriptor, ...] = (
    job_service_pb2.DESCRIPTOR,
    execution_service_pb2.DESCRIPTOR,
    task_service_pb2.DESCRIPTOR,
    farm_service_pb2.DESCRIPTOR,
    notification_service_pb2.DESCRIPTOR,
)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Variable:
    """A path segment that sets a field of the request."""

    field: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """One way to call a method by HTTP. `body` is empty, `*`, or the request's field that the body is."""

    method: MethodDescriptor
    verb: str
    segments: tuple[str | Variable, ...]
    body: str

    @property
    def variables(self) -> tuple[str, ...]:
        """The fields that the path sets."""
        return tuple(segment.field for segment in self.segments if isinstance(segment, Variable))

    def path(self, request: Message) -> str:
        """Returns the path of this binding with the request's own values."""
        return self.path_of(getattr(request, field) for field in self.variables)

    def path_of(self, values: Iterable[str]) -> str:
        """Returns the path of this binding with one value for each variable."""
        given = iter(values)
        return "".join(
            "/" + (_quote(next(given)) if isinstance(segment, Variable) else segment) for segment in self.segments
        )


def _quote(value: str) -> str:
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="")


def all_bindings(files: Iterable[FileDescriptor] = FILES) -> list[Binding]:
    """Returns the bindings of all methods. Raises `ValueError` naming the method whose option can't be served."""
    return [
        binding
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        for binding in bindings(method)
    ]


def bindings(method: MethodDescriptor) -> Iterator[Binding]:
    """Yields the bindings of one method: the option's own first, then the additional ones."""
    options: Any = method.GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    for one in (rule, *rule.additional_bindings):
        pattern = one.WhichOneof("pattern")
        if pattern is None:
            continue
        if pattern not in _VERBS:
            raise ValueError(f"{method.full_name}: http method {pattern} is not served")
        segments = _segments(method, getattr(one, pattern))
        if one.body not in {"", "*"} and one.body not in method.input_type.fields_by_name:
            raise ValueError(f"{method.full_name}: body {one.body} is not a field of its request")
        yield Binding(method=method, verb=pattern.upper(), segments=segments, body=one.body)


def _segments(method: MethodDescriptor, template: str) -> tuple[str | Variable, ...]:
    segments: list[str | Variable] = []
    for part in template.removeprefix("/").split("/"):
        if not part.startswith("{"):
            segments.append(part)
            continue
        field = method.input_type.fields_by_name.get(part.strip("{}"))
        if field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
            raise ValueError(f"{method.full_name}: {part} in {template} is not a text field of its request")
        segments.append(Variable(field.name))
    return tuple(segments)


class Links:
    """Paths of things, by the same bindings."""

    def __init__(self, files: Iterable[FileDescriptor] = FILES) -> None:
        self._bindings: dict[str, list[Binding]] = {}
        for binding in all_bindings(files):
            self._bindings.setdefault(binding.method.input_type.full_name, []).append(binding)

        self._task, self._job, self._execution = (
            self._bindings[request.DESCRIPTOR.full_name][0]
            for request in (
                task_service_pb2.GetTaskRequest,
                job_service_pb2.GetJobRequest,
                execution_service_pb2.GetExecutionRequest,
            )
        )

    def task(self, task_id: str) -> str:
        """Returns the path of a task."""
        return self._task.path_of((task_id,))

    def job(self, task_id: str, job_id: str) -> str:
        """Returns the path of a job."""
        return self._job.path_of((task_id, job_id))

    def execution(self, task_id: str, job_id: str, execution_id: str) -> str:
        """Returns the path of an execution; empty where there is none."""
        return execution_id and self._execution.path_of((task_id, job_id, execution_id))

    def next_page(self, request: Message, token: str) -> str:
        """Returns path and query of the page after; empty for an empty token."""
        if not token:
            return ""
        binding = self._binding(request)
        query = [
            (field.json_name, text)
            for field, value in request.ListFields()
            if field.name not in {*binding.variables, "page_token"}
            for text in _texts(field, value)
        ]
        return f"{binding.path(request)}?{urlencode([*query, ('pageToken', token)])}"

    def _binding(self, request: Message) -> Binding:
        usable = [
            binding
            for binding in self._bindings[request.DESCRIPTOR.full_name]
            if all(getattr(request, field) for field in binding.variables)
        ]
        return max(usable, key=lambda binding: len(binding.variables))


def _texts(field: FieldDescriptor, value: Any) -> Iterator[str]:
    """Yields a field's values as query parameters have them."""
    for item in value if field.is_repeated else (value,):
        if isinstance(item, Timestamp):
            yield show_timestamp(item)
        elif field.enum_type is not None:
            yield field.enum_type.values_by_number[item].name
        else:
            yield str(item)
