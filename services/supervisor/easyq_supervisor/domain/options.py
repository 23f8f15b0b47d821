"""What `easyq up` was asked for: flags over a file over defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from easyq_supervisor.domain.checks import between, dsn, number, one_of, size, text, url, without_secret
from easyq_supervisor.domain.hosts import (
    MOST_CPUS,
    MOST_GPUS,
    MOST_SLOTS,
    DockerHost,
    Labels,
    Offer,
    check_hosts,
    read_docker_host,
    read_labels,
)
from easyq_supervisor.domain.rules import (
    Contract,
    Rules,
    Table,
    read_default,
    read_limit,
    read_pool,
    read_table,
    read_weight,
    rules_tables,
)

DEFAULT_DATA = "~/.easyq"
#: The first of the ports of metrics and health where nothing is said, and the last that leaves room for many agents.
METRICS_PORT, MOST_METRICS_PORT = 10020, 65_000
LOG_LEVELS = ("debug", "info", "warning", "error")
DEFAULT_LOG_LEVEL = "info"
LOG_FORMATS = ("auto", "json", "console")
DEFAULT_TRACE_RATE = 100.0
ENGINES = ("auto", "none")
REPORTS = ("none", "final", "all")


class OptionError(ValueError):
    """Something that was asked for is wrong; the message names it.

    Where it stands in a file, `source` is that file's name, and `key` the setting as it is called there.
    """

    def __init__(self, words: str, *, source: str = "", key: str = "") -> None:
        self._words, self.source, self.key = words, source, key
        super().__init__(f"{source}: {words}" if source else words)

    def at(self, line: int) -> OptionError:
        """The same, which names the line."""
        return OptionError(f"line {line}: {self._words}", source=self.source, key=self.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """All of `easyq up`. Ports of 0 mean any free one; without `docker_hosts` the default one is taken. What concerns
    agents holds for each that doesn't say otherwise."""

    data: str = DEFAULT_DATA
    rest_port: int = 10000
    grpc_port: int = 10001
    # None: from 10020 on, and others where those are taken.
    metrics_port: int | None = None
    docker_hosts: tuple[DockerHost, ...] = ()
    slots: int = 4
    labels: Labels = ()
    cpus: float | None = None
    memory: str = ""
    gpus: int | None = None
    image_cache: str = ""
    redis: str = ""
    mongo: str = ""
    pools: tuple[Table, ...] = ()
    limits: tuple[Table, ...] = ()
    weights: tuple[Table, ...] = ()
    defaults: tuple[Table, ...] = ()
    retention: tuple[Table, ...] = ()
    engine: str = "auto"
    log_level: str = DEFAULT_LOG_LEVEL
    log_format: str = "auto"
    otlp_endpoint: str = ""
    trace_ratio: float = 1.0
    trace_rate: float = DEFAULT_TRACE_RATE
    grace: float = 15.0
    # Empty: what the environment says to the services.
    error_handlers: tuple[str, ...] = ()
    sentry_dsn: str = field(default="", repr=False)
    sentry_environment: str = ""
    report_failures: str = ""

    @property
    def rules(self) -> Rules:
        """What may change while the system runs."""
        return Rules(**{name: getattr(self, name) for name in RULES})

    @property
    def offer(self) -> Offer:
        """What each agent offers."""
        return Offer(
            slots=self.slots,
            labels=self.labels,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
            image_cache=self.image_cache,
        )


#: The fields that services read again while they run.
RULES = ("pools", "limits", "weights", "defaults", "retention")


def merge(flags: Mapping[str, Any], file: Mapping[str, Any], source: str, contract: Contract) -> Options:
    """The options that hold. A flag that is None (or an empty tuple) was not given; `source` is the file's name.

    Keys are the flags' names, with dashes or underscores. A flag that can be repeated replaces the file's whole list.
    `contract` is that of the rules file. Raises OptionError.
    """
    values: dict[str, Any] = {}
    for key, value in file.items():
        name = key.replace("-", "_")
        if name not in _CHECKS:
            raise OptionError(f"{key!r} is no setting of easyq up", source=source, key=key)
        if name in values:
            raise OptionError(f"{key!r} is there twice", source=source, key=key)
        try:
            values[name] = _CHECKS[name](value)
        except ValueError as error:
            raise OptionError(f"{key}: {error}", source=source, key=key) from error
    for name, value in flags.items():
        if _is_given(value):
            try:
                values[name] = _CHECKS[name](list(value) if isinstance(value, tuple) else value)
            except ValueError as error:
                raise OptionError(f"{_flag(name)}: {error}") from error
    options = Options(**{FIELDS.get(name, name): value for name, value in values.items()})
    for kind, tables in rules_tables(options.rules).items():
        try:
            contract({kind: tables})
        except ValueError as error:
            if _is_given(flags.get(kind)):
                raise OptionError(f"{_flag(kind)}: {error}") from error
            raise OptionError(str(error), source=source, key=kind) from error
    for problem in check_hosts(options.docker_hosts, options.pools):
        raise OptionError(problem)
    if options.rest_port == options.grpc_port != 0:
        raise OptionError(f"--rest-port and --grpc-port are both {options.rest_port}; each needs a port of its own")
    return options


def _is_given(value: Any) -> bool:
    return value is not None and value != ()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _seconds(value: Any) -> float:
    return float(number(1, 3600, "a number of seconds")(value))


def _each(read: Callable[[object], Any], shown: Callable[[str], str] = str) -> Callable[[Any], tuple[Any, ...]]:
    """A check of lists of texts or tables, each of which `read` takes; `shown` says what is told of a text."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("must be a list of texts or of tables")
        return tuple(_read(read, shown, item, place) for place, item in enumerate(value, 1))

    return check


def _read(read: Callable[[object], Any], shown: Callable[[str], str], item: object, place: int) -> Any:
    if not isinstance(item, Mapping):
        text(item)
    try:
        return read(item)
    except ValueError as error:
        raise ValueError(f"{shown(item)!r} {error}" if isinstance(item, str) else f"table {place}: {error}") from error


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "data": text,
    "rest_port": between(0, 65535),
    "grpc_port": between(0, 65535),
    "metrics_port": between(0, MOST_METRICS_PORT),
    "docker_host": _each(read_docker_host, without_secret),
    "slots": between(1, MOST_SLOTS),
    "label": read_labels,
    "cpus": number(0.001, MOST_CPUS),
    "memory": size,
    "gpus": between(0, MOST_GPUS),
    "image_cache": size,
    "redis": url("redis", "rediss", "unix"),
    "mongo": url("mongodb", "mongodb+srv"),
    "pool": _each(read_pool),
    "limit": _each(read_limit),
    "weight": _each(read_weight),
    "default": _each(read_default),
    "retention": _each(read_table),
    "engine": one_of(*ENGINES),
    "log_level": one_of(*LOG_LEVELS),
    "log_format": one_of(*LOG_FORMATS),
    "otlp_endpoint": url("http", "https"),
    "trace_ratio": number(0, 1),
    "trace_rate": number(0, 1e6),
    "grace": _seconds,
    "error_handler": _each(lambda name: text(name).strip()),
    "sentry_dsn": dsn,
    "sentry_environment": text,
    "report_failures": one_of(*REPORTS),
}

#: Where a record's field is named for many what a flag names for one.
FIELDS = {
    "docker_host": "docker_hosts",
    "error_handler": "error_handlers",
    "label": "labels",
    "pool": "pools",
    "limit": "limits",
    "weight": "weights",
    "default": "defaults",
}
