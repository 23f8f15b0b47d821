"""Errors as gRPC statuses (google.rpc.Status with ErrorInfo, BadRequest, RetryInfo), and back."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from easyq_chassis.errors import EasyQError, FieldProblem, error_class

DOMAIN = "easyq"
#: Response metadata beyond 16 KiB reaches clients as RESOURCE_EXHAUSTED, so that details are bounded.
MAX_FIELDS = 16
MAX_TEXT = 200
_DETAILS_KEY = "grpc-status-details-bin"


def to_status(error: EasyQError) -> status_pb2.Status:
    """Returns the error with its details, bounded to what metadata can carry."""
    status = status_pb2.Status(code=error.code, message=clip(error.message, 1024))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    status.details.append(_pack(info))
    if error.fields:
        bad = error_details_pb2.BadRequest()
        for problem in error.fields[:MAX_FIELDS]:
            bad.field_violations.add(field=clip(problem.field), description=clip(problem.message))
        status.details.append(_pack(bad))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.retry_after * 1000))
        status.details.append(_pack(retry))
    return status


def from_status(status: status_pb2.Status) -> EasyQError:
    """Returns the error that the status tells; unknown codes become ``Internal``."""
    reason: str | None = None
    fields: list[FieldProblem] = []
    retry_after: float | None = None
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields += [FieldProblem(field=v.field, message=v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return error_class(status.code)(status.message, reason=reason, fields=fields, retry_after=retry_after)


def from_rpc_error(error: grpc.aio.AioRpcError) -> EasyQError:
    """Returns the error that a failed call tells, with the call's own error as its cause."""
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or error.code().name)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    result = from_status(status)
    result.__cause__ = error
    return result


def to_grpc(error: EasyQError) -> Any:
    """Returns what ``context.abort_with_status`` takes."""
    return rpc_status.to_status(to_status(error))


def clip(text: str, limit: int = MAX_TEXT) -> str:
    """Returns the text, or its beginning and an ellipsis where it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
