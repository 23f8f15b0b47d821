"""What `easyq up` tells: people where it is; error handlers that a service was killed, which it can't tell itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from easyq_chassis import error_reports, logs
from easyq_chassis.settings import ServiceSettings
from easyq_supervisor import example
from easyq_supervisor.domain.options import Options

# Seconds that error handlers get at the end.
_LAST_WORDS = 1.0


def first_line(rest: str, grpc: str, *, program: str) -> str:
    """What a newcomer needs: where it is, and a first job. `program` is how `easyq` is called here."""
    return f"starting EasyQ at {rest} (pages and REST); once it is ready: {example.first_job(grpc, program=program)}"


def operations_line(metrics: Mapping[str, str]) -> str:
    """What only operators need: where each process serves its metrics and health. The first address is whole."""
    (name, url), *others = metrics.items()
    places = [f"{name} {url}", *(f"{name} :{url.rpartition(':')[2]}" for name, url in others)]
    return f"/metrics, /livez and /readyz: {', '.join(places)}"


def begin(options: Options, *, farm: str, log_format: str) -> None:
    """Sets up the error handlers that the options name; who was named to the services alone is theirs."""
    if not options.error_handlers and not options.sentry_dsn:
        return
    logs.configure("up", fmt=log_format)
    # The options were checked, and no environment has a say.
    given: dict[str, Any] = {"farm": farm, "error_handlers": options.error_handlers}
    if options.sentry_dsn:
        given["sentry_dsn"] = SecretStr(options.sentry_dsn)
    if options.sentry_environment:
        given["sentry_environment"] = options.sentry_environment
    settings = ServiceSettings.model_construct(**given)
    error_reports.configure("up", settings)


def end() -> None:
    """Lets handlers end with what they have before them, for a second."""
    error_reports.close(_LAST_WORDS)
