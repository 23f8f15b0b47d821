"""What becomes of a recurring job's fires: a pure function of its rules, its state and the time.

Each nominal time is decided exactly once, by ascending nominal time, when it is due: run, or skipped with a reason. A
clock that was put back decides nothing: what is decided is behind the cursor.

One call does a bounded amount of work. A step is one fire looked at, or one day of fires that are surely missed, which
are counted without being looked at. After `limit` steps, or that many fires to run, the plan is cut, and the next call
goes on from its state. Cuts don't show in the sum of what is decided: of the missed fires before one, those that might
run yet (the newest one for ONCE, the newest `all_bound` for ALL) are left for the next call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from easyq_scheduler.domain.cron import next_fire, next_fires
from easyq_scheduler.domain.due_times import due_floor, end_of, fire_of, fires_of, start_of, upcoming
from easyq_scheduler.domain.misfires import Due, decide
from easyq_scheduler.domain.plan import Misfire, Plan, Rules, State

DEFAULT_LIMIT = 1_000


def plan_fires(state: State, rules: Rules, now_ms: int, *, limit: int = DEFAULT_LIMIT) -> Plan:
    """Decides the fires that are due at `now_ms`. `limit` is at least 2.

    Raises `InvalidSchedule` where the schedule can't be evaluated (any more).
    """
    allowed = limit if rules.max_runs is None else min(limit, rules.max_runs - state.runs)
    if allowed <= 0:
        return Plan(state=state, next=None)
    due = _look(state, rules, now_ms, limit=limit, allowed=allowed)
    fires, skips = decide(due, rules.misfire)
    if not fires and not skips:
        return Plan(state=state, next=upcoming(state, rules, due.following))
    nominal = due.following if len(fires) <= allowed else None
    fires = fires[:allowed]
    cursor = max([fire.nominal_ms for fire in fires[-1:]] + [skip.last_ms for skip in skips])
    after = State(cursor_ms=cursor, runs=state.runs + len(fires))
    following = upcoming(after, rules, nominal)
    more = following is not None and following.due_ms <= now_ms
    return Plan(fires=tuple(fires), skips=tuple(skips), state=after, next=following, more=more)


def preview(state: State, rules: Rules, count: int) -> list[int]:
    """Up to `count` nominal times after the state's cursor: the next to run, where nothing is missed."""
    if rules.max_runs is not None:
        count = min(count, rules.max_runs - state.runs)
    times: list[int] = []
    cursor = start_of(rules, state.cursor_ms)
    while len(times) < count:
        nominal = next_fire(rules.schedule, cursor)
        if nominal is None or nominal > end_of(rules):
            break
        times.append(cursor := nominal)
    return times


def _look(state: State, rules: Rules, now_ms: int, *, limit: int, allowed: int) -> Due:
    bound = min(rules.all_bound, limit - 1) if rules.misfire is Misfire.ALL else 1
    due = Due(bound=bound, newest=deque(maxlen=bound + 1))
    cursor, end, floor = start_of(rules, state.cursor_ms), end_of(rules), due_floor(state, rules)
    # Whatever its jitter, a fire before this is due and missed.
    surely = min(now_ms - rules.misfire_deadline_ms - rules.jitter_ms, end + 1)
    steps = 0
    while chunk := next_fires(rules.schedule, cursor):
        index = bisect_left(chunk, surely) if chunk[0] < surely else 0
        if index:
            if steps >= limit:
                due.cut = True
                return due
            steps += 1
            due.miss(fires_of(rules, chunk, max(0, index - bound - 1), index, floor), index, chunk[0])
            floor = max(floor, due.newest[-1].due_ms)
        while index < len(chunk):
            if chunk[index] > min(now_ms, end):
                due.following = chunk[index]
                return due
            fire = fire_of(rules, chunk[index], floor)
            if fire.due_ms > now_ms or len(due.on_time) >= allowed:
                due.following = chunk[index]
                return due
            if steps >= limit:
                due.cut = True
                return due
            steps += 1
            floor = fire.due_ms
            if now_ms - fire.due_ms > rules.misfire_deadline_ms:
                due.miss([fire], 1, fire.nominal_ms)
            else:
                due.on_time.append(fire)
            index += 1
        cursor = chunk[len(chunk) - 1]
    return due
