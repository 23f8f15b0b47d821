"""Docker hosts, and what their agents offer, as they stand in flags and in tables of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyq_supervisor.domain.checks import between, checked_table, number, pool_name, size, text, without_secret
from easyq_supervisor.domain.rules import DEFAULT_POOL, Table, twins

MOST_SLOTS = 10_000
MOST_CPUS = 100_000
MOST_GPUS = 1_000

_AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_URL = re.compile(r"(?:unix|tcp)://\S+")
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What an agent is told of itself, where something is said: containers at once, labels, processors, memory and GPUs
    for jobs that ask for some, room for images (sizes as Docker's users write them)."""

    slots: int | None = None
    labels: Labels = ()
    cpus: float | None = None
    memory: str = ""
    gpus: int | None = None
    image_cache: str = ""

    def settings(self, common: Offer) -> dict[str, str]:
        """As settings of the runner; `common` holds for what this one doesn't say, label by label."""
        labels = {**dict(common.labels), **dict(self.labels)}
        said = {
            "slots": _first(self.slots, common.slots),
            "labels": ",".join(f"{key}={value}" for key, value in labels.items()) or None,
            "cpus": _first(self.cpus, common.cpus),
            "memory": self.memory or common.memory or None,
            "gpus": _first(self.gpus, common.gpus),
            "image_cache": self.image_cache or common.image_cache or None,
        }
        return {name: str(value) for name, value in said.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class DockerHost:
    """A Docker Engine, the pools that its agent joins, what that is called (empty: after the machine and the engine)
    and what it offers."""

    url: str
    pools: tuple[str, ...] = (DEFAULT_POOL,)
    name: str = ""
    offer: Offer = Offer()


def read_docker_host(item: object) -> DockerHost:
    """`URL`, `POOL=URL`, or a table. Raises ValueError with what is wrong."""
    if isinstance(item, str):
        return _parse_docker_host(item)
    table = checked_table(item, {"url": _url}, {"pool": _pools, "name": _agent_name, **_OFFER})
    offer = Offer(**{key: table.pop(key) for key in list(table) if key in _OFFER})
    return DockerHost(
        url=table["url"], pools=table.get("pool", (DEFAULT_POOL,)), name=table.get("name", ""), offer=offer
    )


def read_labels(value: Any) -> Labels:
    """A list of `KEY=VALUE`, or a table. Raises ValueError with what is wrong."""
    pairs = value.items() if isinstance(value, Mapping) else [_pair(one) for one in _listed(value)]
    found = {}
    for key, one in pairs:
        if not key or not isinstance(one, str):
            raise ValueError(f"must have texts for keys and values, not {key!r} and {one!r}")
        # The runner takes them as one text.
        if re.search(r"[,=]|^\s|\s$", key) or re.search(r"[,\n]|^\s|\s$", one):
            raise ValueError(f"has {f'{key}={one}'!r}: neither may have commas, or blanks at an end")
        if key in found:
            raise ValueError(f"has {key!r} twice")
        found[key] = one
    return tuple(found.items())


def check_hosts(hosts: tuple[DockerHost, ...], pools: tuple[Table, ...]) -> list[str]:
    """What is wrong with them beside each other and beside the pools, one sentence each."""
    known = {DEFAULT_POOL, *(pool["name"] for pool in pools)}
    problems = [
        f"no pool is named {name!r} (for {without_secret(host.url)})"
        for host in hosts
        for name in host.pools
        if name not in known
    ]
    problems += [f"{without_secret(url)} is named twice" for url in twins([host.url for host in hosts])]
    problems += [f"two agents are named {name!r}" for name in twins([host.name for host in hosts if host.name])]
    return problems


def deserted(pools: tuple[Table, ...], hosts: tuple[DockerHost, ...]) -> list[str]:
    """A warning for each pool that no agent joins: its tasks would wait for ever, and nothing else says so."""
    joined = {name for host in hosts for name in host.pools}
    return [
        f"warning: no agent joins the pool {name!r}: every task whose whole name matches {pattern!r} waits. "
        f"Give it one by --docker-host {name}=URL"
        for name, pattern in ((pool["name"], pool["pattern"]) for pool in pools)
        if name not in joined
    ]


def _parse_docker_host(value: str) -> DockerHost:
    match = re.fullmatch(r"(?:([^=/:]+)=)?((?:unix|tcp)://\S+)", value)
    try:
        if match is not None:
            return DockerHost(url=match[2], pools=(pool_name(match[1] or DEFAULT_POOL),))
    except ValueError:
        pass
    raise ValueError("is neither a URL (unix:///…, tcp://…) nor POOL=URL")


def _url(value: Any) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise ValueError("must be a URL (unix:///…, tcp://…)")
    return value


def _pools(value: Any) -> tuple[str, ...]:
    names = tuple(pool_name(one) for one in (value if isinstance(value, list) else [value]))
    if not names or twins(list(names)):
        raise ValueError("must be a pool's name, or a list of different ones")
    return names


def _agent_name(value: Any) -> str:
    if not _AGENT_NAME.fullmatch(text(value)):
        raise ValueError("must have letters, digits, '.', '_' and '-', at most 128, and no such mark at the beginning")
    return str(value)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("must be a table, or a list of KEY=VALUE")
    return value


def _pair(value: Any) -> tuple[str, str]:
    key, equals, rest = text(value).partition("=")
    if not key or not equals:
        raise ValueError(f"has {value!r}, which is not KEY=VALUE")
    return key, rest


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


_OFFER = {
    "slots": between(1, MOST_SLOTS),
    "labels": read_labels,
    "cpus": number(0.001, MOST_CPUS),
    "memory": size,
    "gpus": between(0, MOST_GPUS),
    "image_cache": size,
}
