"""Which nominal times a job's rules leave of its schedule's, and when each of them is due.

A fire is due at its nominal time plus its share of the jitter, and not before any fire that precedes it: so due times
ascend as nominal times do, and fires are decided in that order. A jitter longer than the schedule's period therefore
bunches fires; it never makes one late, and none is due more than the jitter after its nominal time.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right

from easyq_scheduler.domain.admission import LATEST_MS
from easyq_scheduler.domain.cron import next_fire, next_fires
from easyq_scheduler.domain.fires import Fires
from easyq_scheduler.domain.plan import Fire, Rules, State

# How far back it is looked for a fire that later ones wait for: so many of a day, and so many days. Beyond that, where
# a jitter spans more than this, a fire doesn't wait.
_LOOK_BACK = 1_000
_LOOK_BACK_MS = 31 * 86_400_000


def share_out(rules: Rules, nominal_ms: int) -> int:
    """The nominal time plus a share of the jitter, 0 to `jitter_ms`: the same for everybody who asks."""
    if rules.jitter_ms <= 0:
        return nominal_ms
    digest = hashlib.sha256(f"{rules.schedule.job_id}\0{nominal_ms}".encode(errors="surrogatepass")).digest()
    return nominal_ms + int.from_bytes(digest[:8], "big") * (rules.jitter_ms + 1) // 2**64


def upcoming(state: State, rules: Rules, nominal: int | None = None) -> Fire | None:
    """The first fire that isn't decided yet; None where there will be none. Raises as `plan_fires` does.

    `nominal` is its nominal time where that is known: looking for it costs more than all else.
    """
    if rules.max_runs is not None and state.runs >= rules.max_runs:
        return None
    if nominal is None:
        nominal = next_fire(rules.schedule, start_of(rules, state.cursor_ms))
    if nominal is None or nominal > end_of(rules):
        return None
    return fire_of(rules, nominal, due_floor(state, rules))


def fire_of(rules: Rules, nominal_ms: int, floor: int) -> Fire:
    return Fire(nominal_ms=nominal_ms, due_ms=max(share_out(rules, nominal_ms), floor))


def fires_of(rules: Rules, fires: Fires, start: int, stop: int, floor: int) -> list[Fire]:
    chain: list[Fire] = []
    for index in range(start, stop):
        chain.append(fire_of(rules, fires[index], floor))
        floor = chain[-1].due_ms
    return chain


def due_floor(state: State, rules: Rules) -> int:
    """The latest due time of the fires up to the cursor: before it no later fire is due."""
    if rules.jitter_ms <= 0:
        return 0
    cursor = start_of(rules, max(state.cursor_ms - min(rules.jitter_ms, _LOOK_BACK_MS), rules.schedule.anchor_ms))
    floor = 0
    while cursor < state.cursor_ms and (fires := next_fires(rules.schedule, cursor)):
        decided = bisect_right(fires, state.cursor_ms)
        for index in range(max(0, decided - _LOOK_BACK), decided):
            floor = max(floor, share_out(rules, fires[index]))
        cursor = fires[len(fires) - 1]
    return floor


def start_of(rules: Rules, cursor_ms: int) -> int:
    return cursor_ms if rules.start_after_ms is None else max(cursor_ms, rules.start_after_ms - 1)


def end_of(rules: Rules) -> int:
    return LATEST_MS if rules.end_at_ms is None else rules.end_at_ms
