"""Settings of a service: environment, then flags; read once, at the start."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from easyq_chassis.error_reports.handlers import unknown
from easyq_chassis.metrics.tasks import TaskLabels
from easyq_chassis.patterns import Pattern

# A key instead of a user, and the project's number as the last piece of the path.
_DSN = re.compile(r"https?://[^\s/?#:@]+(:[^\s/?#:@]*)?@[^\s/?#@]+/([^\s?#]*/)?[0-9]+")


def ops_listen(default: str) -> Any:
    """Returns the field of a service's operations port."""
    return Field(
        default,
        pattern=r"^((\[[0-9a-fA-F:]+\]|[^:/]*):[0-9]{1,5})?$",
        description="Address of /metrics, /livez and /readyz: host:port; port 0 picks a free one. Where nothing is "
        "said and the usual one is taken, a free one is picked as well. Empty: nowhere.",
    )


def trace_rate(of: str) -> Any:
    """Returns the field of the traces that a service begins, by what it begins them for."""
    return Field(
        100.0,
        ge=0,
        description=f"Most traces a second that {of} begin here and that are recorded, in bursts of five seconds' "
        "worth; 0: all of them.",
    )


class ServiceSettings(BaseSettings):
    """What every service can be told. A service's own class sets ``env_prefix`` (``EASYQ_STORE_``)."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        nested_model_default_partial_update=True,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Form of the log: json, console, or auto (console on a terminal)."
    )
    shutdown_grace: float = Field(5.0, ge=0, description="Seconds that calls under way get at a stop.")
    ops_listen: str = ops_listen("")
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Where metrics and traces are pushed by OTLP over gRPC (http://collector:4317); empty: what "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, else nowhere. OTEL_EXPORTER_OTLP_* hold besides.",
    )
    metric_tasks: str = Field(
        ".*",
        description="Regex (RE2) of the tasks that have a label of their own in metrics; others count as `other`.",
    )
    metric_tasks_most: int = Field(
        100, ge=0, le=2_000, description="Most tasks with a label of their own: the first that come."
    )
    farm: str = Field("easyq", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Name of the farm.")
    trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces begun here that are recorded. Of one that a caller began its sampled flag "
        "decides.",
    )
    error_handlers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Who is told of errors, by names separated by commas: sentry, and those of installed packages "
        "(docs/operations/errors.md). Empty: sentry where sentry_dsn is set, else nobody.",
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        description="Sentry's URL of a project (DSN); by the environment rather than by the flag, which `ps` shows.",
    )
    sentry_environment: str = Field(
        "production",
        pattern=r"^[^\s/]{1,64}$",
        description="What this farm is to who reads the reports: production, staging, ….",
    )

    @property
    def chosen_handlers(self) -> tuple[str, ...]:
        """Names of the error handlers that are set up."""
        return self.error_handlers or (("sentry",) if self.sentry_dsn is not None else ())

    @field_validator("error_handlers", mode="before")
    @classmethod
    def _split_handlers(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        # Each once, in their order.
        return tuple(dict.fromkeys(one.strip() for part in parts for one in str(part).split(",") if one.strip()))

    @field_validator("error_handlers")
    @classmethod
    def _check_handlers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if problem := unknown(value):
            raise ValueError(problem)
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _check_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not _DSN.fullmatch(value.get_secret_value()):
            raise ValueError("it must be like https://KEY@sentry.example.org/7")
        return value

    @model_validator(mode="after")
    def _check_sentry(self) -> ServiceSettings:
        if "sentry" in self.error_handlers and self.sentry_dsn is None:
            raise ValueError("error_handlers names sentry, which needs sentry_dsn")
        return self

    @field_validator("metric_tasks")
    @classmethod
    def _check_metric_tasks(cls, value: str) -> str:
        Pattern(value)
        return value

    @property
    def otlp(self) -> str:
        """Where telemetry is pushed; empty: nowhere."""
        return self.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")

    @property
    def task_labels(self) -> TaskLabels:
        """Which tasks have a label of their own in metrics."""
        return TaskLabels(Pattern(self.metric_tasks), self.metric_tasks_most)


S = TypeVar("S", bound=ServiceSettings)


def load(cls: type[S], argv: list[str], *, prog: str, given: Mapping[str, Any] | None = None) -> S:
    """Returns the settings from the environment and the flags in ``argv``, which win.

    ``given`` holds values of flags that the caller has taken out of ``argv`` itself; they win over the environment.
    Ends the process with status 2 and one line per wrong setting, named as flag and variable.
    """
    for warning in unknown_variables(cls, os.environ):
        print(f"{prog}: {warning}", file=sys.stderr)  # noqa: T201 - no log yet
    source: dict[str, Any] = {"_cli_parse_args": argv, "_cli_prog_name": prog, **(given or {})}
    try:
        return cls(**source)
    except ValidationError as error:
        prefix = str(cls.model_config.get("env_prefix", ""))
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            flag = "--" + name.replace("_", "-")
            print(f"{prog}: {flag} ({prefix}{name.upper()}): {problem['msg']}", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(2)
    except SettingsError as error:
        # It names the setting and where that was found, and repeats no value.
        print(f"{prog}: {error}; is it JSON?", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(2)


def unknown_variables(cls: type[ServiceSettings], environment: Mapping[str, str]) -> list[str]:
    """Returns a warning for each variable that bears the service's prefix and is none of its settings.

    They are no errors: orchestrators set variables after the names of their services (`EASYQ_STORE_SERVICE_HOST`).
    """
    prefix = str(cls.model_config.get("env_prefix", ""))
    known = {prefix + name.upper() for name in cls.model_fields}
    warnings = []
    for name in sorted(environment):
        if name.startswith(prefix) and name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            warnings.append(f"{name} is not a setting and has no effect{hint}")
    return warnings
