"""Settings of the dispatcher."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq.durations import format_duration, parse_duration
from easyq_chassis import settings
from easyq_dispatcher.domain.breakers import Patience
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.rules import Additions, RuleError, build_matching

Lines = Annotated[tuple[str, ...], NoDecode]

# Flags that may be repeated; said once, the singular is the more natural.
_REPEATABLE = {
    "--pools": "pools",
    "--pool": "pools",
    "--limits": "limits",
    "--limit": "limits",
    "--weights": "weights",
    "--weight": "weights",
    "--pool-lost-after": "pool_lost_after",
}


class DispatcherSettings(settings.ServiceSettings):
    """The dispatcher: matches jobs with agents. Each flag is also EASYQ_DISPATCHER_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_DISPATCHER_")

    listen: str = Field("127.0.0.1:10013", description="Address to serve on: host:port or unix:/path.")
    ops_listen: str = settings.ops_listen("127.0.0.1:10023")
    store: str = Field("127.0.0.1:10012", description="Address of the store.")
    redis: str = Field(
        "redis://127.0.0.1:6379/0",
        description="URL of Redis or Valkey: redis://, rediss:// or unix://. Nothing lives only there.",
    )
    pools: Lines = Field(
        (),
        description="Pools of agents and the tasks that they serve: NAME=REGEX[:MAX]. The flag (also --pool) may be "
        "repeated; the variable has one a line, or a JSON list. A task goes to the first pool whose regex (RE2's "
        "syntax) matches its whole name, else to `default`.",
    )
    limits: Lines = Field(
        (),
        description="Most executions at once of all tasks whose whole name matches: REGEX=N. As --pools; also --limit.",
    )
    weights: Lines = Field(
        (),
        description="Heads that a task takes when it is its turn among the tasks of its pool, 1 to 1,000: REGEX=N. The "
        "first that matches the whole name holds, else 1. As --pools; also --weight.",
    )
    gauge_interval: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Least seconds between two counts of queues, pools and breakers for metrics; they take no more "
        "than a twentieth of the time.",
    )
    lost_after: str = Field("120s", description="Silence after which an agent is lost and its jobs may run elsewhere.")
    pool_lost_after: Lines = Field(
        (), description="The same for one pool: NAME=DURATION. As --pools. An agent of several pools has the shortest."
    )
    beat_every: float = Field(5.0, gt=0, le=60, description="Seconds between two beats of an agent.")
    lease: float = Field(
        15.0, gt=0, le=600, description="Seconds without an acknowledged beat after which an agent starts nothing new."
    )
    poll_interval: float = Field(
        0.25, gt=0, le=10, description="Most seconds between two rounds of matching, where no news came."
    )
    look_interval: float = Field(0.5, gt=0, le=10, description="Seconds between two looks at whether Redis holds.")
    feed_interval: float = Field(1.0, gt=0, le=60, description="Seconds between two looks for new jobs in the store.")
    pass_interval: float = Field(30.0, gt=0, le=3600, description="Seconds between two passes over all waiting tasks.")
    reconcile_interval: float = Field(
        5.0, gt=0, le=600, description="Seconds between two comparisons of what counts in Redis with the store."
    )
    orphan_after: float = Field(
        3.0, gt=0, le=60, description="Seconds after which a job that was taken and not assigned is looked into."
    )
    redis_timeout: float = Field(2.0, gt=0, le=60, description="Most seconds for a call to Redis.")
    call_timeout: float = Field(10.0, gt=0, le=300, description="Most seconds for a call to the store.")
    reserve_after: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Seconds for which a job that needs more room than any host has free is passed over, before a host "
        "that is large enough is kept free for it.",
    )
    breaker_failures: int = Field(
        3, ge=1, le=1_000, description="Failures in a row that open the breaker of a host, or of an image."
    )
    breaker_wait: float = Field(
        5.0,
        gt=0,
        le=300,
        description="Seconds until one job tries an open breaker; doubled when it fails, up to five minutes.",
    )
    rules: str = Field(
        "",
        description="Rules file (TOML), of which this service takes [[pool]] (name, pattern, max_running, lost_after), "
        "[[limit]] (pattern, max_running) and [[weight]] (pattern, weight). Its rules come before those of the flags, "
        "and replace a pool of the same name and a limit or weight of the same pattern. Read again when it changes, "
        "and on SIGHUP; one that is wrong, in whatever table, is refused, and the old stays. Empty: none.",
    )

    @field_validator("redis")
    @classmethod
    def _check_redis(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            known = parts.scheme in {"redis", "rediss", "unix"} and parts.port != 0
        except ValueError:
            # What it says would repeat a part of the password, which is taken for the port.
            known = False
        if not known:
            raise ValueError(
                "is no URL of Redis (redis://host:port/0); a password in it must be percent-encoded"
            ) from None
        return value

    @field_validator("pools", "limits", "weights", "pool_lost_after", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.startswith("["):
            return json.loads(value)
        return _lines(value)

    @field_validator("pools")
    @classmethod
    def _check_pools(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        build_matching(value, (), lost_after_ms=0, lost_after_by_pool={})
        return value

    @field_validator("limits")
    @classmethod
    def _check_limits(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        build_matching((), value, lost_after_ms=0, lost_after_by_pool={})
        return value

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        build_matching((), (), weights=value, lost_after_ms=0, lost_after_by_pool={})
        return value

    @field_validator("lost_after")
    @classmethod
    def _check_lost_after(cls, value: str) -> str:
        _lost_after_ms(value)
        return value

    @field_validator("pool_lost_after")
    @classmethod
    def _check_pool_lost_after(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        by_pool = _by_pool(value)
        if "pools" in info.data:  # else that setting is told to be wrong already
            build_matching(info.data["pools"], (), lost_after_ms=0, lost_after_by_pool=by_pool)
        return value

    @field_validator("lease")
    @classmethod
    def _check_lease(cls, value: float, info: ValidationInfo) -> float:
        given = info.data
        if value <= given.get("beat_every", 0):
            raise ValueError("has to be longer than beat_every")
        shortest = [_lost_after_ms(given["lost_after"])] if "lost_after" in given else []
        shortest += _by_pool(given.get("pool_lost_after", ())).values()
        if any(milliseconds <= value * 1000 for milliseconds in shortest):
            raise ValueError("has to be shorter than every lost_after")
        return value

    def matching(self, added: Additions) -> tuple[Matching, str]:
        """The rules, as they were checked, with those of the file; and a warning, or nothing.

        Whether a pool's `lost_after` is longer than the lease is known here alone. The other services have taken the
        file by then, so that such a one is told, and does not hold.
        """
        lease_ms = self.lease * 1000
        hasty = [name for name, milliseconds in added.lost_after_by_pool.items() if milliseconds <= lease_ms]
        matching = build_matching(
            self.pools,
            self.limits,
            weights=self.weights,
            lost_after_ms=_lost_after_ms(self.lost_after),
            lost_after_by_pool=_by_pool(self.pool_lost_after),
            added=replace(
                added, lost_after_by_pool={k: v for k, v in added.lost_after_by_pool.items() if k not in hasty}
            ),
        )
        return matching, _hasty_problem(hasty, matching, self.lease) if hasty else ""

    def patience(self) -> Patience:
        """When breakers open, and for how long."""
        return Patience(failures=self.breaker_failures, wait_ms=int(self.breaker_wait * 1000))


def load(argv: list[str]) -> DispatcherSettings:
    """The settings from the environment and from flags; ends the process where one is wrong."""
    rest, repeated = _take_repeated(argv)
    return settings.load(DispatcherSettings, rest, prog="easyq dispatcher", given=repeated)


def _hasty_problem(names: list[str], matching: Matching, lease: float) -> str:
    held = ", ".join(f"{name} has {format_duration(matching.pool_by_name[name].lost_after_ms)}" for name in names)
    return f"lost_after of a pool has to be longer than the lease, {lease:g} s; the rules file's is not: {held} instead"


def _take_repeated(argv: list[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Takes the flags that may be repeated out: the library splits their values at commas, which regexes may have."""
    values: dict[str, tuple[str, ...]] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = _REPEATABLE.get(flag)
        found = value if equals else next(arguments, None) if name else None
        if name is None or found is None:
            rest.append(argument)
        else:
            values[name] = (*values.get(name, ()), *_lines(found))
    return rest, values


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _lost_after_ms(text: str) -> int:
    milliseconds = parse_duration(text)
    if milliseconds < 1_000:
        raise ValueError(f"{text!r} is less than a second")
    return milliseconds


def _by_pool(lines: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals:
            raise RuleError(f"{line!r} is not NAME=DURATION")
        try:
            found[name] = _lost_after_ms(text)
        except ValueError as error:
            raise RuleError(f"{line!r}: {error}") from error
    return found
