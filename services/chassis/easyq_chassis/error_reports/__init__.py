"""Errors are told to those who look after the farm: to Sentry, and to handlers of the operator's own.

One reporter for each process, as there is one log. Until `configure`, and where no handler is chosen, everything here
does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from easyq_chassis.about import own_version
from easyq_chassis.error_reports.handlers import ErrorHandler, Surroundings, factory
from easyq_chassis.error_reports.outlet import Counts, Outlet
from easyq_chassis.error_reports.report import Frame, Kind, Raised, Report
from easyq_chassis.error_reports.reporter import Hiding, Reporter

if TYPE_CHECKING:
    from easyq_chassis.settings import ServiceSettings

__all__ = [
    "Counts",
    "ErrorHandler",
    "Frame",
    "Kind",
    "Raised",
    "Report",
    "Reporter",
    "Surroundings",
    "close",
    "configure",
    "counts",
    "deliver",
    "handlers",
    "report_error",
    "use",
]

# Shorter values would take half of a text with them.
_LEAST_SECRET = 4
_NONE = Reporter("", ())
_current = _NONE


def configure(service: str, settings: ServiceSettings) -> None:
    """Sets up the handlers that the settings name, each in a thread of its own, where it is also made."""
    dsn = settings.sentry_dsn.get_secret_value() if settings.sentry_dsn is not None else ""
    around = Surroundings(
        service=service,
        farm=settings.farm,
        version=own_version(),
        environment=settings.sentry_environment,
        sentry_dsn=dsn,
    )
    outlets = [Outlet(name, partial(factory(name), around)) for name in settings.chosen_handlers]
    use(Reporter(service, outlets, hide=Hiding(secrets=secrets_of(dict(settings)))))


def use(reporter: Reporter | None) -> None:
    """Makes this the process's reporter; None: there is none."""
    global _current  # noqa: PLW0603 - one for the process, as the log
    _current = _NONE if reporter is None else reporter


def handlers() -> tuple[str, ...]:
    """The names of the handlers that are set up."""
    return tuple(_current.counts)


def counts() -> dict[str, Counts]:
    """What became of this process's reports, by handler."""
    return _current.counts


def report_error(
    error: BaseException, place: str, tags: Mapping[str, str] = MappingProxyType({}), *, fatal: bool = False
) -> None:
    """Tells an error that is no answer to anybody: a fault of ours. Never raises, never waits.

    `place` says where it came up, the same for each error that comes up there: a method, a loop, a route. `tags` are
    the ids at hand, by the names of `Report.tags`.
    """
    _current.crash(error, place, fatal=fatal, tags=tags)


async def deliver(report: Report, timeout: float) -> list[str]:
    """Brings a report to all handlers; what went wrong, by sentences. Empty: all have it."""
    return await _current.deliver(report, timeout)


def close(grace: float) -> None:
    """Lets handlers end with what they have before them, for at most `grace` seconds; nothing is told afterwards."""
    reporter = _current
    use(None)
    reporter.close(grace)


def secrets_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Values among settings that no text may show, longest first: secrets, and passwords in URLs."""
    found: set[str] = set()
    for value in settings.values():
        if isinstance(value, SecretStr):
            found.update((value.get_secret_value(), *_in_url(value.get_secret_value())))
        elif isinstance(value, str):
            found.update(_in_url(value))
    return tuple(sorted((one for one in found if len(one) >= _LEAST_SECRET), key=len, reverse=True))


def _in_url(text: str) -> set[str]:
    try:
        parts = urlsplit(text)
    except ValueError:
        return set()
    # A key of Sentry's stands where others have a user.
    return {parts.password} if parts.password else set()
