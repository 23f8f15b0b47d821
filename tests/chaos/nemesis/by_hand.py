"""What was asked for by hand: triggers, retries, pauses. Pure. An unanswered request may have happened or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos.nemesis.violation import Violation
from tests.chaos.nemesis.world import World


def runs_by_hand(world: World) -> Iterator[Violation]:
    """Each answered trigger or retry made one execution, a refused one none, any other one at most.

    A trigger that was told to wait may be superseded where `overlap` is REPLACE.
    """
    jobs = {command["job"] for command in world.commands} | set(world.jobs)
    for job in jobs:
        asked = [command for command in world.commands_of(job) if command["verb"] in {"trigger", "retry"}]
        outcomes = Counter(command["outcome"] for command in asked)
        answered = [command for command in asked if command["outcome"] == "answered"]
        made = {one["execution"] for one in world.executions_of(job) if one["trigger"] == "MANUAL"}
        named = Counter(command["execution"] for command in answered if command["execution"])
        for execution, count in named.items():
            if execution not in made:
                yield Violation("hand-lost", job, f"was answered with {execution}, which nobody knows as run by hand")
            if count > 1:
                yield Violation("hand-doubled", job, f"{count} requests were answered with {execution}")
        cron = (world.intent_of(job) or {}).get("cron")
        least = len(named) if cron and cron["overlap"] == "REPLACE" else outcomes["answered"]
        if len(made) < least:
            yield Violation("hand-lost", job, f"{least} requests by hand were answered, {len(made)} ran")
        if len(made) > outcomes["answered"] + outcomes["unknown"]:
            yield Violation("hand-doubled", job, f"{len(made)} ran by hand, by {dict(outcomes)}")


def pauses_rest(world: World) -> Iterator[Violation]:
    """While a job is paused, no time of it is decided on."""
    seen: dict[tuple[str, int], int] = {}
    for rest in world.rests:
        first = seen.setdefault((rest["job"], rest["since"]), rest["decided"])
        if rest["decided"] != first:
            yield Violation("paused", rest["job"], f"decided on its times up to {rest['decided']} while it was paused")


BY_HAND: tuple[Callable[[World], Iterator[Violation]], ...] = (runs_by_hand, pauses_rest)
