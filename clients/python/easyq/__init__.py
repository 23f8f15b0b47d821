"""EasyQ's client: run containers through a queue.

    >>> import easyq
    >>> with easyq.Client() as client:
    ...     result = client.run(easyq.job_spec("busybox:1", "echo hello"))
    >>> result.exit_code, result.stdout
    (0, b'hello\\n')

Errors are classes of `easyq.errors`, which are here as well: `except easyq.NotFound`.

Names are imported on first use, so that the messages alone (`easyq.v1`) or the command line cost nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyq.aio import AsyncClient as AsyncClient
    from easyq.backlog import Submitted as Submitted
    from easyq.client import Client as Client
    from easyq.durations import format_duration as format_duration
    from easyq.durations import parse_duration as parse_duration
    from easyq.errors import Aborted as Aborted
    from easyq.errors import AlreadyExists as AlreadyExists
    from easyq.errors import ClientClosed as ClientClosed
    from easyq.errors import DeadlineExceeded as DeadlineExceeded
    from easyq.errors import EasyQError as EasyQError
    from easyq.errors import FailedPrecondition as FailedPrecondition
    from easyq.errors import Internal as Internal
    from easyq.errors import InvalidArgument as InvalidArgument
    from easyq.errors import JobFailed as JobFailed
    from easyq.errors import NotFound as NotFound
    from easyq.errors import PermissionDenied as PermissionDenied
    from easyq.errors import ResourceExhausted as ResourceExhausted
    from easyq.errors import Unavailable as Unavailable
    from easyq.errors import Unimplemented as Unimplemented
    from easyq.reading import selection as selection
    from easyq.result import RunResult as RunResult
    from easyq.spec import job_spec as job_spec

    __version__: str

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "EasyQError",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "JobFailed",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "RunResult",
    "Submitted",
    "Unavailable",
    "Unimplemented",
    "__version__",
    "format_duration",
    "job_spec",
    "parse_duration",
    "selection",
]

_HOMES = {
    "Aborted": "easyq.errors",
    "AlreadyExists": "easyq.errors",
    "AsyncClient": "easyq.aio",
    "Client": "easyq.client",
    "ClientClosed": "easyq.errors",
    "DeadlineExceeded": "easyq.errors",
    "EasyQError": "easyq.errors",
    "FailedPrecondition": "easyq.errors",
    "Internal": "easyq.errors",
    "InvalidArgument": "easyq.errors",
    "JobFailed": "easyq.errors",
    "NotFound": "easyq.errors",
    "PermissionDenied": "easyq.errors",
    "ResourceExhausted": "easyq.errors",
    "RunResult": "easyq.result",
    "Submitted": "easyq.backlog",
    "Unavailable": "easyq.errors",
    "Unimplemented": "easyq.errors",
    "format_duration": "easyq.durations",
    "job_spec": "easyq.spec",
    "parse_duration": "easyq.durations",
    "selection": "easyq.reading",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("easyq-client")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'easyq' has no attribute {name!r}")


def __dir__() -> list[str]:
    """For completion: what there is to use, whether or not it was imported yet."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
