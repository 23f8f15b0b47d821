"""EasyQ's client: run containers through a queue.

    >>> import easyq
    >>> with easyq.Client() as client:
    ...     result = client.run(easyq.job_spec("busybox:1", "echo hello"))
    >>> result.exit_code, result.stdout
    (0, b'hello\\n')

Names are imported on first use, so that the messages alone (`easyq.v1`) or the command line cost nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyq.aio import AsyncClient as AsyncClient
    from easyq.backlog import Submitted as Submitted
    from easyq.client import Client as Client
    from easyq.client import RunResult as RunResult
    from easyq.durations import format_duration as format_duration
    from easyq.durations import parse_duration as parse_duration
    from easyq.errors import EasyQError as EasyQError
    from easyq.reading import selection as selection
    from easyq.spec import job_spec as job_spec

    __version__: str

__all__ = [
    "AsyncClient",
    "Client",
    "EasyQError",
    "RunResult",
    "Submitted",
    "__version__",
    "format_duration",
    "job_spec",
    "parse_duration",
    "selection",
]

_HOMES = {
    "AsyncClient": "easyq.aio",
    "Client": "easyq.client",
    "EasyQError": "easyq.errors",
    "RunResult": "easyq.client",
    "Submitted": "easyq.backlog",
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
