"""Error handlers: what they are, and how they are found by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeAlias

from easyq_chassis.error_reports.report import Report

#: Entry points of this group are factories (`Factory`) of handlers, by their names.
GROUP = "easyq.error_handlers"


class ErrorHandler(Protocol):
    """Tells errors to somebody else. It lives in a thread of its own, which alone calls it: it may block.

    Whatever it raises, and however long it takes, harms only itself: what comes meanwhile waits in a bounded queue, and
    is dropped where that is full.
    """

    def handle(self, report: Report) -> None:
        """Passes one report on; returns once somebody else has it. What it raises counts as a failure.

        A report about an execution is brought again after a failure, under the same id; one about a crash is not.
        """
        ...

    def close(self) -> None:
        """Lets go of what it holds; nothing follows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a handler is made with. Settings of its own it reads from the environment."""

    service: str
    farm: str
    #: Of EasyQ.
    version: str
    #: As `sentry_environment` says: production, staging, ….
    environment: str
    sentry_dsn: str = field(default="", repr=False)


Factory: TypeAlias = "Callable[[Surroundings], ErrorHandler]"


def _sentry(around: Surroundings) -> ErrorHandler:
    # The library takes a tenth of a second to import, which who doesn't use it need not wait for.
    from easyq_chassis.error_reports.sentry import SentryHandler

    return SentryHandler(around)


_BUILT_IN: Mapping[str, Factory] = {"sentry": _sentry}


def unknown(names: tuple[str, ...]) -> str:
    """A sentence about names that no handler has; empty where there is none."""
    known = {*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))} if names else set()
    missing = [name for name in names if name not in known]
    if not missing:
        return ""
    return f"there is no error handler {', '.join(missing)}; there are {', '.join(sorted(known))}"


def factory(name: str) -> Factory:
    """What makes the handler of this name. Its package is imported when it is called. Raises `LookupError`."""
    built_in = _BUILT_IN.get(name)
    if built_in is not None:
        return built_in
    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        raise LookupError(f"there is no error handler {name}")

    def load(around: Surroundings) -> ErrorHandler:
        make: Any = points[0].load()
        handler: ErrorHandler = make(around)
        return handler

    return load
