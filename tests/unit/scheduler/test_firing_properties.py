"""Which fires run over random outages, against a plain reference that looks at every single fire."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from easyq_scheduler.domain.cron import next_fire
from easyq_scheduler.domain.due_times import share_out
from easyq_scheduler.domain.firing import plan_fires, preview
from easyq_scheduler.domain.plan import Fire, Misfire, Plan, Reason, Rules, State
from tests.unit.scheduler.times import ms, schedule

START = ms("2024-10-26 06:00")  # London's clocks go back the next night
HOUR = 3_600_000
SPAN = 48 * HOUR

EXPRESSIONS = [
    "*/7 * * * *",
    "*/15 0-22 * * *",
    "30 1,13 * * *",
    "@every 11m",
    "*/20 5 * * * *",
    "* 9 * * *",
    "0 12 L * *",
]
DURATIONS = st.sampled_from([0, 1, 30_000, 5 * 60_000, HOUR, 7 * HOUR, 50 * HOUR])

rules_of = st.builds(
    Rules,
    schedule=st.builds(
        schedule,
        st.sampled_from(EXPRESSIONS),
        st.just("Europe/London"),
        job_id=st.sampled_from(["a", "b", "c"]),
        anchor_ms=st.just(START),
    ),
    jitter_ms=DURATIONS,
    start_after_ms=st.none() | st.integers(START - HOUR, START + SPAN),
    end_at_ms=st.none() | st.integers(START, START + SPAN),
    max_runs=st.none() | st.integers(0, 40),
    misfire=st.sampled_from(Misfire),
    misfire_deadline_ms=DURATIONS,
    all_bound=st.integers(0, 12),
)
wakes_of = st.lists(st.integers(START - HOUR, START + SPAN), min_size=1, max_size=12)
limits_of = st.sampled_from([15, 40, 1_000])


@dataclass
class Reference:
    """Decides one fire after the other, and may be slow."""

    rules: Rules
    position: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        cursor = START if self.rules.start_after_ms is None else max(START, self.rules.start_after_ms - 1)
        self.nominal: list[int] = []
        end = START + SPAN if self.rules.end_at_ms is None else self.rules.end_at_ms
        while (following := next_fire(self.rules.schedule, cursor)) is not None and following <= end:
            self.nominal.append(cursor := following)
        self.due: list[int] = []
        for nominal in self.nominal:
            self.due.append(
                max(share_out(self.rules, nominal), *self.due[-1:]) if self.due else share_out(self.rules, nominal)
            )

    def decide(self, now: int) -> dict[int, Reason | None]:
        """What is decided at `now`, by nominal time; None: it runs."""
        due = [n for n in range(self.position, len(self.nominal)) if self.due[n] <= now]
        missed = [n for n in due if now - self.due[n] > self.rules.misfire_deadline_ms]
        late: list[int] = []
        if self.rules.misfire is Misfire.ONCE and due == missed:
            late = missed[-1:]
        elif self.rules.misfire is Misfire.ALL and self.rules.all_bound:
            late = missed[-self.rules.all_bound :]
        reason = {Misfire.SKIP: Reason.MISFIRED, Misfire.ONCE: Reason.COALESCED, Misfire.ALL: Reason.MISFIRE_BOUND}
        decided: dict[int, Reason | None] = {}
        for n in due:
            runs = n not in missed or n in late
            if self.runs == self.rules.max_runs:
                break
            self.runs += runs
            decided[self.nominal[n]] = None if runs else reason[self.rules.misfire]
            self.position = n + 1
        return decided


def decisions(rules: Rules, plans: list[Plan]) -> dict[int, Reason | None]:
    """The same from plans, whose skips are ranges. Fails where a fire is decided twice, or a range is miscounted."""
    decided: dict[int, Reason | None] = {}
    for plan in plans:
        for skip in plan.skips:
            cursor = skip.first_ms - 1
            for _ in range(skip.count):
                following = next_fire(rules.schedule, cursor)
                assert following is not None
                assert following not in decided
                decided[cursor := following] = skip.reason
            assert cursor == skip.last_ms
        for fire in plan.fires:
            assert fire.nominal_ms not in decided
            decided[fire.nominal_ms] = None
    return decided


@settings(max_examples=300, deadline=None)
@given(rules_of, wakes_of, limits_of)
def test_over_any_outages_each_fire_is_decided_once_and_as_the_rules_have_it(
    rules: Rules, wakes: list[int], limit: int
) -> None:
    reference = Reference(rules)
    state = State(cursor_ms=START)
    everything: dict[int, Reason | None] = {}
    for now in wakes:  # in any order: the clock is put back, too
        plans: list[Plan] = []
        while not plans or plans[-1].more:
            plan = plan_fires(state, rules, now, limit=limit)
            assert plan == plan_fires(state, rules, now, limit=limit)
            assert plan.state.cursor_ms > state.cursor_ms or plan.state == state
            assert plan.state.runs == state.runs + len(plan.fires)
            assert all(share_out(rules, fire.nominal_ms) <= fire.due_ms <= now for fire in plan.fires)
            assert all(fire.due_ms <= fire.nominal_ms + rules.jitter_ms for fire in plan.fires)
            assert plan.next is None or (plan.next.due_ms <= now) == plan.more
            assert preview(plan.state, rules, 1) == ([] if plan.next is None else [plan.next.nominal_ms])
            state = plan.state
            plans.append(plan)
        decided = decisions(rules, plans)
        assert decided == reference.decide(now)
        assert not decided.keys() & everything.keys()
        everything |= decided
    assert sorted(everything) == reference.nominal[: len(everything)]
    assert state.runs == list(everything.values()).count(None) == reference.runs


@settings(max_examples=100, deadline=None)
@given(rules_of, st.integers(START, START + SPAN))
def test_once_gives_exactly_one_run_for_all_that_was_missed(rules: Rules, now: int) -> None:
    rules = Rules(schedule=rules.schedule, jitter_ms=rules.jitter_ms, misfire_deadline_ms=rules.misfire_deadline_ms)
    state, skipped, more = State(cursor_ms=START), 0, True
    ran: list[Fire] = []
    while more:
        plan = plan_fires(state, rules, now, limit=5)
        state, more = plan.state, plan.more
        skipped += sum(skip.count for skip in plan.skips)
        ran += plan.fires
    late = [fire for fire in ran if now - fire.due_ms > rules.misfire_deadline_ms]
    assert len(late) <= 1
    assert len(ran) == len(late) or not late
    assert ran or not skipped
