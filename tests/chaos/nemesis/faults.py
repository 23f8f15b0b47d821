"""Which faults come when: decided from the seed before the first one, so that the same seed breaks the same things."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

# Further connections are those of Redis and of each agent.
LINKS = ("gateway-store", "scheduler-store", "dispatcher-store")
# Only where there is a MongoDB.
DATABASE_LINK = "store-mongo"
SERVICES = ("gateway", "store", "scheduler-0", "scheduler-1", "dispatcher-0", "dispatcher-1")
ALL = "all"

# kind → how often, relative to the others.
WEIGHTS = {
    "kill": 10,
    "kill-all": 1,
    "freeze": 8,
    "partition": 8,
    "isolate": 2,
    "delay": 3,
    "flush": 2,
    "redis-restart": 2,
    "daemon-term": 1,
    "daemon-kill": 1,
    "daemon-hang": 2,
    "disk-full": 1,
    "clock": 2,
}
# Seconds from the end of one fault to the next, on average, in each of the lanes.
_GAP = 4.0
_LANES = 3
_TRIES = 1_000
# Seconds between two faults of one target.
_APART = 0.5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`at` seconds after the nemesis began, for `lasts` seconds. `detail` is the kind's own."""

    number: int
    kind: str
    target: str
    at: float
    lasts: float
    detail: str = ""

    @property
    def until(self) -> float:
        return self.at + self.lasts

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        return cls(**data)


def plan(
    seed: int,
    seconds: float,
    hosts: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    targets: Sequence[str] = (),
    mongo: bool = False,
) -> list[Fault]:
    """All faults of a run, by time; each ends before `seconds`. No two hit the same target at once.

    `kinds` and `targets`: only these, by default all; `mongo`: the store's database can be cut off too, and is no
    file whose disk could be full. Raises ValueError where no kind has one of the targets.
    """
    numbers = random.Random(f"faults {seed}")
    chosen = {kind: weight for kind, weight in WEIGHTS.items() if not kinds or kind in kinds}
    if mongo:
        chosen.pop("disk-full", None)
    found: list[Fault] = []
    lasting: list[Fault] = []
    free = [numbers.uniform(1, _GAP) for _ in range(_LANES)]
    while True:
        lane = min(range(_LANES), key=lambda one: free[one])
        for _ in range(_TRIES):
            fault = _draw(numbers, chosen, hosts, number=len(found) + 1, at=round(free[lane], 2), mongo=mongo)
            if not targets or fault.target in targets:
                break
        else:
            raise ValueError(f"none of {sorted(chosen)} hits {sorted(targets)}")
        free[lane] = fault.until + numbers.expovariate(1 / _GAP) + 0.5
        if fault.until > seconds:
            return found
        # None begins before the one that was drawn before it.
        lasting = [other for other in lasting if fault.at < other.until + _APART]
        if not any(_collide(fault, other) for other in lasting):
            found.append(fault)
            lasting.append(fault)


def _draw(
    numbers: random.Random, chosen: dict[str, int], hosts: Sequence[str], *, number: int, at: float, mongo: bool
) -> Fault:
    kind = numbers.choices(list(chosen), list(chosen.values()))[0]
    runners = [f"runner-{host}" for host in hosts]
    agents = [f"{part}-{host}" for host in hosts for part in ("agent", "watchdog")]
    short, detail, target = numbers.uniform(0.1, 4), "", ALL
    match kind:
        case "kill":
            target = numbers.choice([*SERVICES, "store", *runners, *agents])
        case "kill-all":
            pass
        case "freeze":
            target = numbers.choice([*SERVICES, "redis", *runners, *agents])
            short = numbers.choice([numbers.uniform(1, 6), numbers.uniform(6, 20)])
        case "partition" | "isolate":
            # An agent is isolated by a cut of all that it has.
            target = numbers.choice(links(hosts, mongo=mongo) if kind == "partition" else [f"agent-{h}" for h in hosts])
            detail = f"{numbers.choice(['up', 'down', 'both'])} {numbers.choice(['resume', 'reset'])}"
            short = numbers.choice([numbers.uniform(1, 5), numbers.uniform(5, 16)])
        case "delay":
            target, detail = numbers.choice(links(hosts, mongo=mongo)), str(numbers.choice([20, 100, 400]))
            short = numbers.uniform(3, 12)
        case "flush":
            target, short = "redis", 0.0
        case "redis-restart":
            target = "redis"
        case "daemon-term" | "daemon-kill":
            target, short = f"dockerd-{numbers.choice(list(hosts))}", numbers.uniform(0.5, 8)
        case "daemon-hang":
            target, short = f"dockerd-{numbers.choice(list(hosts))}", numbers.uniform(1, 15)
        case "disk-full":
            target, short = "disk", numbers.uniform(1, 6)
        case "clock":
            target = "clock"
            seconds = numbers.choice([numbers.uniform(10, 90), numbers.uniform(90, 600)])
            detail, short = str(int(seconds * 1000 * numbers.choice([-1, 1]))), numbers.uniform(2, 15)
    return Fault(number=number, kind=kind, target=target, at=at, lasts=round(short, 2), detail=detail)


def links(hosts: Sequence[str], *, mongo: bool = False) -> list[str]:
    """The names of the connections that can be cut."""
    more = [f"agent-{host}-{end}" for host in hosts for end in ("dispatcher", "store")]
    # As often as the others of the store together: all that it does goes by this one.
    return [*LINKS, "dispatcher-redis", *([DATABASE_LINK] * 2 if mongo else []), *more]


def _collide(one: Fault, other: Fault) -> bool:
    together = one.at < other.until + _APART and other.at < one.until + _APART
    if not together:
        return False
    if ALL in {one.target, other.target} or _thing(one.target) == _thing(other.target):
        return True
    # A cut of all connections of an agent, and of one of them.
    return any(
        whole.kind == "isolate" and part.target.startswith(f"{whole.target}-")
        for whole, part in ((one, other), (other, one))
    )


def _thing(target: str) -> str:
    """What a target is part of: an agent and its watchdog are a runner."""
    part, _, host = target.partition("-")
    return f"runner-{host}" if part in {"agent", "watchdog"} and "-" not in host else target
