"""What `easyq up` was asked for: flags over a file over defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyq_supervisor.domain.rules import (
    DockerHost,
    Limit,
    Pool,
    check_together,
    parse_docker_host,
    parse_limit,
    parse_pool,
)

DEFAULT_DATA = "~/.easyq"
LOG_LEVELS = ("debug", "info", "warning", "error")
ENGINES = ("auto", "none")


class OptionError(ValueError):
    """Something that was asked for is wrong; the message names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """All of `easyq up`. Ports of 0 mean any free one; without `docker_hosts` the default one is taken."""

    data: str = DEFAULT_DATA
    rest_port: int = 10000
    grpc_port: int = 10001
    docker_hosts: tuple[DockerHost, ...] = ()
    slots: int = 4
    redis: str = ""
    mongo: str = ""
    pools: tuple[Pool, ...] = ()
    limits: tuple[Limit, ...] = ()
    engine: str = "auto"
    log_level: str = "info"
    grace: float = 15.0


def merge(flags: Mapping[str, Any], file: Mapping[str, Any], source: str) -> Options:
    """The options that hold. A flag that is None (or an empty tuple) was not given; `source` is the file's name.

    Keys are the flags' names, with dashes or underscores. A flag that can be repeated replaces the file's whole list.
    Raises OptionError.
    """
    values: dict[str, Any] = {}
    for key, value in file.items():
        name = key.replace("-", "_")
        if name not in _CHECKS:
            raise OptionError(f"{source}: {key!r} is no setting of easyq up")
        if name in values:
            raise OptionError(f"{source}: {key!r} is there twice")
        values[name] = _checked(name, value, f"{source}: {key}")
    for name, value in flags.items():
        if value is not None and value != ():
            values[name] = _checked(name, list(value) if isinstance(value, tuple) else value, _flag(name))
    options = Options(**{_FIELDS.get(name, name): value for name, value in values.items()})
    for problem in check_together(options.pools, options.limits, options.docker_hosts):
        raise OptionError(problem)
    if options.rest_port == options.grpc_port != 0:
        raise OptionError(f"--rest-port and --grpc-port are both {options.rest_port}; each needs a port of its own")
    return options


def _checked(name: str, value: Any, place: str) -> Any:
    try:
        return _CHECKS[name](value)
    except ValueError as error:
        raise OptionError(f"{place}: {error}") from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be an integer between {least} and {most}")
        return value

    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3600:
        raise ValueError("must be a number of seconds between 1 and 3600")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return check


def _url(*schemes: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not _text(value).startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return str(value)

    return check


def _each(parse: Callable[[str], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("must be a list of texts")
        return tuple(_parsed(parse, _text(item)) for item in value)

    return check


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from error


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "data": _text,
    "rest_port": _integer(0, 65535),
    "grpc_port": _integer(0, 65535),
    "docker_host": _each(parse_docker_host),
    "slots": _integer(1, 10_000),
    "redis": _url("redis", "rediss", "unix"),
    "mongo": _url("mongodb", "mongodb+srv"),
    "pool": _each(parse_pool),
    "limit": _each(parse_limit),
    "engine": _one_of(*ENGINES),
    "log_level": _one_of(*LOG_LEVELS),
    "grace": _seconds,
}

# Where a record's field is named for many what a flag names for one.
_FIELDS = {"docker_host": "docker_hosts", "pool": "pools", "limit": "limits"}
