"""gRPC underneath the client: channels, and statuses as errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2, status_pb2

from easyq.errors import BY_CODE, EasyQError, FieldProblem, InvalidArgument

Given = ParamSpec("Given")
Made = TypeVar("Made")

_TAKES = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "a bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number",
    FieldDescriptor.CPPTYPE_ENUM: "a value of its enum",
}
_DETAILS_KEY = "grpc-status-details-bin"
# A batch or a spec may be large; the server has the say about how large.
_MAX_MESSAGE = 36 * 1024 * 1024


def open_channel(target: str) -> grpc.Channel:
    """A channel to `host:port` or `unix:/path`. Nothing is sent yet."""
    return grpc.insecure_channel(target, options=_options(target))


def open_aio_channel(target: str) -> grpc.aio.Channel:
    """The same for asyncio, within its running loop."""
    return grpc.aio.insecure_channel(target, options=_options(target))


def _options(target: str) -> list[tuple[str, int]]:
    """Pings find a connection whose other end has vanished within about 15 s, and a server that restarts is found again
    within a second."""
    options: list[tuple[str, int]] = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # So long an attempt to connect may take, whatever its name says: over a slow link, to a busy machine.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _is_local(target):
        # A proxy for the outer world is not asked for the way to this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def made(kind: Callable[Given, Made], /, *args: Given.args, **fields: Given.kwargs) -> Made:
    """A message with fields that a caller gave. Raises InvalidArgument where one of them has another type."""
    try:
        return kind(*args, **fields)
    except (TypeError, ValueError) as error:
        for name, value in fields.items():
            try:
                kind(**{name: value})  # type: ignore[call-arg, arg-type]
            except (TypeError, ValueError):
                problem = FieldProblem(field=name, message=_wrong(kind, name, value, error))
                raise InvalidArgument(f"{name} {problem.message}", fields=[problem]) from error
        raise InvalidArgument(str(error)) from error


def _wrong(kind: Any, name: str, value: object, error: Exception) -> str:
    """What a field takes instead of this value. Protobuf's own words tell of its insides."""
    field = kind.DESCRIPTOR.fields_by_name.get(name)
    if field is None or isinstance(error, ValueError):
        return f"can't be {type(value).__name__}: {error}"
    if field.message_type is not None:
        takes = f"a message of the type {field.message_type.name}"
        if field.message_type.name == "JobSpec":
            takes = "a spec, as easyq.job_spec(…) makes it"
    else:
        takes = _TAKES.get(field.cpp_type, "of another type")
    many = "a list, each item " if field.is_repeated else ""
    return f"must be {many}{takes}, not {type(value).__name__}"


def to_error(error: Any, target: str) -> EasyQError:
    """What a failed call tells, with the call's own error as its cause.

    gRPC raises objects that are an RpcError and a Call at once, which its types can't say.
    """
    code, text = error.code(), str(error.details() or "")
    status = _details(error)
    result_class = BY_CODE.get(code.name, EasyQError)
    if status is None:
        # No server of ours said this, so that it came from gRPC itself.
        message = f"can't reach EasyQ at {target}: {text}" if code is grpc.StatusCode.UNAVAILABLE else text
        result = result_class(message or code.name)
    else:
        result = _with_details(result_class, status)
    result.code = code.name
    result.__cause__ = error
    return result


def is_break(error: EasyQError) -> bool:
    """Whether a stream ended for the connection's sake, so that another one may go on where it was."""
    if error.code in {"UNAVAILABLE", "CANCELLED"}:
        return True
    return error.code in {"UNKNOWN", "INTERNAL"} and not error.reason


def _details(error: Any) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return status_pb2.Status.FromString(value)
    return None


def _with_details(result_class: type[EasyQError], status: status_pb2.Status) -> EasyQError:
    reason, retry_after = "", None
    fields: list[FieldProblem] = []
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields += [FieldProblem(field=one.field, message=one.description) for one in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return result_class(status.message, reason=reason, fields=fields, retry_after=retry_after)


def _is_local(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    return target.startswith("unix:") or host in {"localhost", "::1"} or host.startswith("127.")
