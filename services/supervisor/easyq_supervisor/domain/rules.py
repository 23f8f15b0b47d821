"""Pools, limits and Docker hosts as they stand in flags and files."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_POOL = "default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_RUNNING = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A named set of agents: the regex of the task names it serves, and how many run at once (0: all its slots)."""

    name: str
    pattern: str
    max_running: int = 0

    def __str__(self) -> str:
        return f"{self.name}={self.pattern}" + (f":{self.max_running}" if self.max_running else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most this many at once of the tasks whose names the regex matches."""

    pattern: str
    max_running: int

    def __str__(self) -> str:
        return f"{self.pattern}={self.max_running}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerHost:
    """A Docker Engine, and the pool that its agent joins."""

    url: str
    pool: str = DEFAULT_POOL


def parse_pool(text: str) -> Pool:
    """`NAME=REGEX[:max]`. Raises ValueError with what is wrong."""
    name, equals, rest = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise ValueError("is not NAME=REGEX[:max]")
    # Task names have no colons, so that one before digits at the end is never part of a useful regex.
    pattern, colon, number = rest.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]+", number):
        return Pool(name=name, pattern=_regex(rest))
    return Pool(name=name, pattern=_regex(pattern), max_running=_count(number, least=1))


def parse_limit(text: str) -> Limit:
    """`REGEX=N`. Raises ValueError with what is wrong."""
    pattern, equals, number = text.rpartition("=")
    if not equals:
        raise ValueError("is not REGEX=N")
    return Limit(pattern=_regex(pattern), max_running=_count(number, least=1))


def parse_docker_host(text: str) -> DockerHost:
    """`URL` or `NAME=URL`. Raises ValueError with what is wrong."""
    match = re.fullmatch(r"(?:([^=/:]+)=)?((?:unix|tcp)://\S+)", text)
    if match is None or (match[1] and not _NAME.fullmatch(match[1])):
        raise ValueError("is neither a URL (unix:///…, tcp://…) nor POOL=URL")
    return DockerHost(url=match[2], pool=match[1] or DEFAULT_POOL)


def check_together(pools: tuple[Pool, ...], limits: tuple[Limit, ...], hosts: tuple[DockerHost, ...]) -> list[str]:
    """What is wrong with them beside each other, one sentence each."""
    problems = []
    names = [pool.name for pool in pools]
    problems += [f"the pool {name!r} is named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if DEFAULT_POOL in names:
        problems.append(f"the pool {DEFAULT_POOL!r} is there by itself, for every task that no other pool serves")
    patterns = [limit.pattern for limit in limits]
    problems += [f"{one!r} is limited twice" for one in sorted({p for p in patterns if patterns.count(p) > 1})]
    known = {*names, DEFAULT_POOL}
    problems += [f"no pool is named {host.pool!r} (for {host.url})" for host in hosts if host.pool not in known]
    urls = [host.url for host in hosts]
    problems += [f"{url} is named twice" for url in sorted({u for u in urls if urls.count(u) > 1})]
    return problems


def deserted(pools: tuple[Pool, ...], hosts: tuple[DockerHost, ...]) -> list[str]:
    """A warning for each pool that no agent joins: its tasks would wait for ever, and nothing else says so."""
    joined = {host.pool for host in hosts}
    return [
        f"warning: no agent joins the pool {pool.name!r}: every task whose whole name matches {pool.pattern!r} waits. "
        f"Give it one by --docker-host {pool.name}=URL"
        for pool in pools
        if pool.name not in joined
    ]


def _regex(pattern: str) -> str:
    if not pattern:
        raise ValueError("has an empty regex")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"has a broken regex: {error}") from error
    return pattern


def _count(number: str, *, least: int) -> int:
    if not (re.fullmatch(r"[0-9]{1,7}", number) and least <= int(number) <= _MOST_RUNNING):
        raise ValueError(f"has no number between {least} and {_MOST_RUNNING} at its end")
    return int(number)
