"""The error tree: what may go wrong, free of any transport.

Adapters translate their drivers' errors into these and keep the cause; ``status`` turns them into gRPC statuses and
back. Nobody matches errors by their text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """What kind of error it is, by the numbers and names of gRPC's status codes."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldProblem:
    """One wrong field: its path in lowerCamel (``spec.envs["A"]``) and what is wrong with it."""

    field: str
    message: str


class EasyQError(Exception):
    """Base of all errors that a caller may see.

    ``reason`` is a name of ``easyq.v1.ErrorReason.Code``; ``fields`` the wrong fields, if any; ``retry_after`` the
    seconds after which the same call may succeed, if that is worth saying.
    """

    code: ClassVar[Code] = Code.INTERNAL
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fields: Iterable[FieldProblem] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fields = tuple(fields)
        self.retry_after = retry_after


class InvalidArgument(EasyQError):
    """The caller's input is wrong, whatever the state of the system."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_FIELDS"


class NotFound(EasyQError):
    """There is no such thing."""

    code = Code.NOT_FOUND
    default_reason = "JOB_NOT_FOUND"


class AlreadyExists(EasyQError):
    """It exists already, with another content."""

    code = Code.ALREADY_EXISTS
    default_reason = "JOB_EXISTS"


class FailedPrecondition(EasyQError):
    """The state does not allow it; the same call fails until the state is changed."""

    code = Code.FAILED_PRECONDITION
    default_reason = "ILLEGAL_STATE"


class Aborted(EasyQError):
    """Somebody else changed it first, or the caller has been replaced."""

    code = Code.ABORTED
    default_reason = "STALE"


class PermissionDenied(EasyQError):
    """The request comes from where none may come."""

    code = Code.PERMISSION_DENIED
    default_reason = "ORIGIN_NOT_ALLOWED"


class ResourceExhausted(EasyQError):
    """Too much at once."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "OVERLOADED"


class Unavailable(EasyQError):
    """A service that is needed can't be reached; whether the call took effect may be unknown."""

    code = Code.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(EasyQError):
    """It took longer than allowed; whether it took effect may be unknown."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(EasyQError):
    """This version can't do that."""

    code = Code.UNIMPLEMENTED
    default_reason = "NOT_SUPPORTED"


class Internal(EasyQError):
    """A fault of ours."""


#: The class for each code.
_BY_CODE: dict[int, type[EasyQError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        PermissionDenied,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Internal,
    )
}


def error_class(code: int) -> type[EasyQError]:
    """Returns the class of a gRPC status code's number; ``Internal`` for codes that no error of ours has."""
    return _BY_CODE.get(code, Internal)
