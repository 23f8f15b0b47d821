"""What the load asks for, one after the other: a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.programs import Program
from tests.support.farm.programs import shell
from tests.support.farm.witness import Witness

# Marks each job with the number of its intent, whatever the request's answer was.
LABEL = "chaos.n"
INFRA_RETRIES = 30
HOSTS = ("a", "b", "c")
# Kinds of which some are retried by hand.
_BY_HAND = frozenset({"plain", "failing", "flaky", "choosy", "timeout", "limited"})

# kind → how often, relative to the others.
WEIGHTS = {
    "plain": 20,
    "slow": 12,
    "big": 5,
    "failing": 6,
    "flaky": 8,
    "choosy": 4,
    "delayed": 10,
    "timeout": 4,
    "limited": 16,
    "pooled": 8,
    "stopped": 9,
    "deadline": 4,
    "fail-if-lost": 3,
    "picky": 4,
}
# How it is sent: once without a key, with one until it is answered, several times at once, in a batch with others.
_WAYS = {"once": 3, "keyed": 5, "repeated": 2, "batch": 3}


@dataclass(frozen=True, kw_only=True)
class Intent:
    """`stop_after`: seconds after it was sent. `by_hand`: it is retried once it has ended. `cron`: what a checker has
    to know of a schedule; `steps`: seconds and what is done to it then."""

    n: int
    kind: str
    task: str
    way: str
    program: Program
    more: dict[str, Any]
    stop_after: float | None = None
    by_hand: bool = False
    cron: dict[str, Any] | None = None
    steps: tuple[tuple[float, str], ...] = ()

    @property
    def key(self) -> str:
        return "" if self.way == "once" else f"chaos-{self.n}"

    def spec(self, witness: Witness) -> dict[str, Any]:
        return shell(
            self.program.script,
            mounts=witness.mounts,
            labels={LABEL: str(self.n)},
            stopGrace="1s",
            infraRetries=INFRA_RETRIES,
            **self.more,
        )

    def as_event(self) -> Event:
        """For the history."""
        return {
            "n": self.n,
            "what": self.kind,
            "task": self.task,
            "key": self.key,
            "program": self.program.as_json(),
            "retries": self.more.get("retries", 0),
            "infra_retries": INFRA_RETRIES,
            "retry_on": self.more.get("retryOn", []),
            "on_lost": self.more.get("onLost", "RERUN"),
            "timeout": "timeout" in self.more,
            "deadline": "startDeadline" in self.more,
            "agent_labels": self.more.get("agentLabels", {}),
            "cron": self.cron,
        }


def intents(seed: int, kinds: Sequence[str] = ()) -> Iterator[Intent]:
    """Jobs that run once, without end. `kinds`: only these, by default all."""
    weights = {kind: weight for kind, weight in WEIGHTS.items() if not kinds or kind in kinds}
    numbers = random.Random(f"load {seed}")
    # Numbers below are for recurring jobs.
    n = 100
    while True:
        n += 1
        yield _intent(numbers, n, weights)


def _intent(numbers: random.Random, n: int, weights: dict[str, int]) -> Intent:
    kind = numbers.choices(list(weights), list(weights.values()))[0]
    task, seconds = numbers.choice(["mixed-a", "mixed-b", "mixed-c"]), 0.0
    more: dict[str, Any] = {}
    stop_after: float | None = None
    output: dict[str, Any] = {"stdout": numbers.randrange(8_000), "stderr": numbers.randrange(2_000)}
    bad_until = bad_code = 0
    backoff = {"min": "0.3s", "max": "2s", "jitter": round(numbers.random(), 2)}
    match kind:
        case "slow":
            output |= {"parts": 4, "pause": round(numbers.uniform(0.2, 1.2), 1)}
        case "big":
            output = {"stdout": numbers.randrange(1_000_000), "stderr": numbers.randrange(1_000_000), "parts": 3}
            output["pause"] = 0.2
        case "failing":
            bad_until, bad_code = 1_000, numbers.choice([1, 3, 42, 143])
            more = {"retries": numbers.randrange(3), "backoff": backoff}
        case "flaky":
            bad_until, bad_code, more = numbers.randrange(1, 3), 75, {"retries": 2, "backoff": backoff}
        case "choosy":
            bad_until, bad_code = 1_000, numbers.choice([75, 76])
            more = {"retries": 2, "retryOn": ["75"], "backoff": backoff}
        case "delayed":
            more = {"startIn": f"{numbers.uniform(0.5, 8):.1f}s"}
        case "timeout":
            seconds, more = 60, {"timeout": "1s", "retries": numbers.randrange(2), "backoff": backoff}
        case "limited":
            # Many tasks take turns at one limit: whoever loses a place does not get the next one.
            task, seconds = f"limited-{numbers.choice('abbcdef')}", round(numbers.uniform(0, 2.5), 1)
        case "pooled":
            task, seconds = "pooled-a", round(numbers.uniform(0, 2), 1)
        case "stopped":
            seconds, stop_after = numbers.choice([0.5, 2, 20]), round(numbers.choice([0, numbers.uniform(0, 4)]), 2)
            more = numbers.choice([{}, {"startIn": "2s"}, {"retries": 3, "backoff": backoff}])
            bad_until, bad_code = (1_000, 9) if "retries" in more else (0, 0)
        case "deadline":
            more = {"startDeadline": "2s"}
        case "fail-if-lost":
            seconds, more = 1.0, {"onLost": "FAIL"}
        case "picky":
            more = {"agentLabels": {"host": numbers.choice(HOSTS)}, "resources": {"cpus": 0.1, "memory": "16m"}}
    return Intent(
        n=n,
        kind=kind,
        task=task,
        way=numbers.choices(list(_WAYS), list(_WAYS.values()))[0],
        program=Program(number=n, seconds=seconds, bad_until=bad_until, bad_code=bad_code, **output),
        more=more,
        stop_after=stop_after,
        by_hand=kind in _BY_HAND and numbers.random() < 0.3,
    )


# Expression, period in ms, whether its times are multiples of the epoch's seconds (else of the job's begin).
_EXPRESSIONS = (
    ("@every 3s", 3_000, False),
    ("* * * * * */5", 5_000, True),
    ("@every 4s", 4_000, False),
    ("* * * * * */10", 10_000, True),
)
_OVERLAPS = ("ALLOW", "SKIP", "QUEUE", "REPLACE")
_MISFIRES = ("ONCE", "SKIP", "ALL")
# Live at once: more would leave no room for others on a small machine.
SLOTS = 4
_FIRST_RECURRING = 1_000_000


def recurring(seed: int, slot: int) -> Iterator[Intent]:
    """Jobs that fire until they are stopped, one after the other, without end. All slots begin with another overlap."""
    numbers = random.Random(f"recurring {seed} {slot}")
    n = _FIRST_RECURRING * (slot + 1)
    while True:
        n += 1
        yield _recurring(numbers, n, _OVERLAPS[(slot + n - 1) % len(_OVERLAPS)])


def _recurring(numbers: random.Random, n: int, overlap: str) -> Intent:
    misfire = numbers.choice(_MISFIRES)
    # Ten minutes of missed fires that all run at once must not be more than a small machine can run.
    many = misfire == "ALL" and overlap == "ALLOW"
    expression, every, aligned = _EXPRESSIONS[3] if many else numbers.choice(_EXPRESSIONS)
    # Longer than their period, now and then, so that the overlap has something to decide on.
    seconds = numbers.choice([0.0, 1.0, 2.0] if overlap == "ALLOW" else [0.5, 3.0, 6.0, 9.0])
    deadline = numbers.choice([5, 20, 90])
    more: dict[str, Any] = {"cron": expression, "overlap": overlap, "misfire": misfire}
    flaky = numbers.random() < 0.2
    if flaky:
        more |= {"retries": 1, "backoff": {"min": "0.5s", "max": "1s"}}
    return Intent(
        n=n,
        kind="recurring",
        task=f"cron-{overlap.lower()}",
        way="keyed",
        program=Program(
            number=n, stdout=200, stderr=40, seconds=seconds, bad_until=3 if flaky else 0, bad_code=9 if flaky else 0
        ),
        more={**more, "misfireDeadline": f"{deadline}s"},
        cron={
            "every": every,
            "aligned": aligned,
            "overlap": overlap,
            "misfire": misfire,
            "deadline": deadline * 1000,
        },
        steps=_steps(numbers),
    )


def _steps(numbers: random.Random) -> tuple[tuple[float, str], ...]:
    """What is done to a recurring job: seconds since it was made, and the verb. The last one is its stop."""
    now, steps = 0.0, []
    for _ in range(numbers.randrange(2, 6)):
        now += numbers.uniform(2, 25)
        match numbers.choice(["trigger", "trigger", "pause", "pause and trigger"]):
            case "trigger":
                steps.append((now, "trigger"))
            case verbs:
                steps.append((now, "pause"))
                now += numbers.uniform(1, 15)
                if verbs != "pause":
                    steps.append((now, "trigger"))
                    now += numbers.uniform(1, 10)
                steps.append((now, "resume"))
    return (*((round(at, 1), verb) for at, verb in steps), (round(now + numbers.uniform(5, 40), 1), "stop"))
