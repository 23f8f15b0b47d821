"""What may go wrong, as classes. Every error of a call is an `EasyQError`; nobody has to match texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easyq.result import RunResult


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldProblem:
    """One wrong field: its path in lowerCamel (`spec.envs["A"]`), and what is wrong with it."""

    field: str
    message: str


class EasyQError(Exception):
    """Base of all errors of calls.

    `message` is a sentence for people, `reason` a name of `easyq.v1.ErrorReason.Code` (empty where the server gave
    none), `fields` the wrong fields, `retry_after` the seconds after which the call may succeed, if the server said so.
    """

    #: Name of the gRPC status code.
    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fields: Iterable[FieldProblem] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fields = tuple(fields)
        self.retry_after = retry_after


class InvalidArgument(EasyQError):
    """The request is wrong, whatever the state of the farm; see `fields`. Some of it the client finds by itself: an
    address that is none, an argument of another type."""

    code = "INVALID_ARGUMENT"


class NotFound(EasyQError):
    """There is no such task, job or execution."""

    code = "NOT_FOUND"


class AlreadyExists(EasyQError):
    """The idempotency key was used with another body."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(EasyQError):
    """The state does not allow it: a job that has ended can't be stopped."""

    code = "FAILED_PRECONDITION"


class Aborted(EasyQError):
    """Somebody else changed it first."""

    code = "ABORTED"


class PermissionDenied(EasyQError):
    """Requests from there are not allowed."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(EasyQError):
    """Too much at once; `retry_after` says when to come back."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(EasyQError):
    """The server can't be reached, or one that it needs. Whether the call took effect may be unknown."""

    code = "UNAVAILABLE"


class DeadlineExceeded(EasyQError):
    """It took longer than allowed. Whether it took effect may be unknown."""

    code = "DEADLINE_EXCEEDED"


class Unimplemented(EasyQError):
    """This server can't do that."""

    code = "UNIMPLEMENTED"


class Internal(EasyQError):
    """A fault of the server; its log has more."""

    code = "INTERNAL"


class ClientClosed(EasyQError):
    """The client was closed, and makes no calls any more."""

    code = "FAILED_PRECONDITION"


class JobFailed(EasyQError):
    """`run(check=True)`: the job has ended, and did not succeed. `result` has its output and all else.

    No call failed, so that `code` is UNKNOWN.
    """

    def __init__(self, message: str, *, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


#: The class for each code; codes without one are plain `EasyQError`s.
BY_CODE: dict[str, type[EasyQError]] = {
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
