"""Error answers: which status has which codes and reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from easyq_gateway.openapi.comments import Comments
from easyq_gateway.openapi.rules import Schema

_REASON = "easyq.v1.ErrorReason.Code"
_RETRY_AFTER: Schema = {
    "Retry-After": {
        "description": "Seconds after which the same call may succeed, where that is worth saying.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """The errors that share a status. `headers`: those that such an answer may have."""

    status: int
    name: str
    words: str
    codes: tuple[str, ...]
    reasons: tuple[str, ...]
    retry_after: bool = False


#: Every error answer of REST. `rest/answers.py` and `Refused` give them their statuses.
KINDS: tuple[Kind, ...] = (
    Kind(
        status=400,
        name="InvalidArgument",
        words="The request is wrong; `fields` names what. It changed nothing.",
        codes=("INVALID_ARGUMENT",),
        reasons=("INVALID_FIELDS", "MALFORMED_BODY", "TOO_LARGE", "NOT_SUPPORTED"),
    ),
    Kind(
        status=403,
        name="NotAllowed",
        words="The header Host or Origin names a place that requests may not come from.",
        codes=("PERMISSION_DENIED",),
        reasons=("ORIGIN_NOT_ALLOWED",),
    ),
    Kind(
        status=404,
        name="NotFound",
        words="There is no such thing, or no such path.",
        codes=("NOT_FOUND",),
        reasons=(
            "ROUTE_NOT_FOUND",
            "TASK_NOT_FOUND",
            "JOB_NOT_FOUND",
            "EXECUTION_NOT_FOUND",
            "AGENT_NOT_FOUND",
            "POOL_NOT_FOUND",
            "DELIVERY_NOT_FOUND",
        ),
    ),
    Kind(
        status=405,
        name="MethodNotAllowed",
        words="The path takes other methods, which the header Allow names.",
        codes=("UNIMPLEMENTED",),
        reasons=("METHOD_NOT_ALLOWED",),
    ),
    Kind(
        status=409,
        name="Conflict",
        words="The state of things does not allow it, or somebody else was first.",
        codes=("ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED"),
        reasons=(
            "IDEMPOTENCY_CONFLICT",
            "JOB_EXISTS",
            "REVISION_MISMATCH",
            "ILLEGAL_STATE",
            "STALE",
            "NOT_RECURRING",
            "OVERLAP",
            "NEEDS_FORCE",
        ),
    ),
    Kind(
        status=413,
        name="TooLarge",
        words="The body is larger than its bound.",
        codes=("RESOURCE_EXHAUSTED",),
        reasons=("TOO_LARGE",),
    ),
    Kind(
        status=415,
        name="UnsupportedMediaType",
        words="The body is not `application/json` in UTF-8, or it is compressed.",
        codes=("INVALID_ARGUMENT",),
        reasons=("UNSUPPORTED_MEDIA_TYPE",),
    ),
    Kind(
        status=416,
        name="RangeNotSatisfiable",
        words="The output ends before the first byte that was asked for.",
        codes=("INVALID_ARGUMENT",),
        reasons=("INVALID_FIELDS",),
    ),
    Kind(
        status=426,
        name="UpgradeRequired",
        words="The path speaks WebSocket, and the request did not ask for it.",
        codes=("INVALID_ARGUMENT",),
        reasons=("INVALID_FIELDS",),
    ),
    Kind(
        status=429,
        name="Overloaded",
        words="Too many requests at once.",
        codes=("RESOURCE_EXHAUSTED",),
        reasons=("OVERLOADED",),
        retry_after=True,
    ),
    Kind(
        status=500,
        name="Internal",
        words="A fault of EasyQ's; its log has the details.",
        codes=("INTERNAL",),
        reasons=("INTERNAL",),
    ),
    Kind(
        status=503,
        name="Unavailable",
        words="A service that is needed can't be reached. Whether a change took effect may be unknown.",
        codes=("UNAVAILABLE",),
        reasons=("UNAVAILABLE", "DISK_FULL"),
        retry_after=True,
    ),
    Kind(
        status=504,
        name="DeadlineExceeded",
        words="It took longer than allowed. Whether a change took effect may be unknown.",
        codes=("DEADLINE_EXCEEDED",),
        reasons=("DEADLINE_EXCEEDED",),
    ),
)
_BY_STATUS = {kind.status: kind for kind in KINDS}
#: What any call may answer.
ALWAYS = (400, 403, 429, 500, 503, 504)
#: What a call with a body may answer besides.
OF_BODY = (413, 415)
_OF_CODE = {
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "INVALID_ARGUMENT": 400,
}
_ERRORS = re.compile(r"\bErrors: (.*)", re.DOTALL)
_CODE = re.compile(r"\b(" + "|".join(_OF_CODE) + r")\b")


def told_statuses(comment: str) -> set[int]:
    """Returns the statuses of the codes that a method's comment names behind `Errors:`."""
    match = _ERRORS.search(comment)
    return {_OF_CODE[code] for code in _CODE.findall(match[1])} if match else set()


def references(statuses: Iterable[int]) -> Schema:
    """Returns the members of an operation's `responses` for these statuses."""
    return {
        str(status): {"$ref": f"#/components/responses/{_BY_STATUS[status].name}"} for status in sorted(set(statuses))
    }


def responses(comments: Comments, error_body: Schema) -> Schema:
    """Returns the components that `references` refers to."""
    return {kind.name: _response(kind, comments, error_body) for kind in KINDS}


def _response(kind: Kind, comments: Comments, error_body: Schema) -> Schema:
    lines = [kind.words, ""]
    lines += [f"- `{reason}`: {comments.get(f'{_REASON}.{reason}', 'no such thing.')}" for reason in kind.reasons]
    told = {"code": {"enum": list(kind.codes)}, "reason": {"enum": list(kind.reasons)}}
    schema = {
        "type": "object",
        "properties": {"error": {"allOf": [error_body, {"properties": told}]}},
        "required": ["error"],
    }
    made: Schema = {"description": "\n".join(lines), "content": {"application/json": {"schema": schema}}}
    if kind.status == 405:
        allow = {"Allow": {"description": "The path's methods.", "schema": {"type": "string"}}}
        return {**made, "headers": allow}
    return {**made, "headers": _RETRY_AFTER} if kind.retry_after else made
