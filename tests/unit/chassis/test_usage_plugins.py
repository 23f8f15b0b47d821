"""Plugins of metrics: they get usage and add labels, and none of them can harm anything."""

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from easyq_chassis.metrics import Registry
from easyq_chassis.metrics.export import Exports, resource
from easyq_chassis.metrics.usage import MOST_LABELS, MOST_WAITING, Kind, Plugins, Usage
from tests.support.waiting import wait_until

MADE: dict[str, Callable[[], Any]] = {}


class _Point(EntryPoint):
    """An entry point whose package is this module."""

    def load(self) -> Any:
        return MADE[self.name]


class Sink:
    def __init__(self) -> None:
        self.taken: list[Usage] = []

    def has(self, count: int) -> bool:
        return len(self.taken) == count

    def take(self, records: Sequence[Usage]) -> None:
        self.taken += records


class Hanging(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def take(self, records: Sequence[Usage]) -> None:
        self.go.wait(60)
        super().take(records)


class Team:
    labels: Sequence[str] = ("team",)

    def label(self, record: Usage) -> Sequence[str]:
        return (record.labels.get("team", "nobody"),)


def usage(kind: Kind = Kind.ENQUEUED, **fields: Any) -> Usage:
    return Usage(kind=kind, at=1, task_id="mail", job_id="j", **fields)


def plugins(registry: Registry, *names: str, **made: Any) -> Plugins:
    """Of these: classes, functions that make one, or what is made."""
    MADE.clear()
    MADE.update({name: one if callable(one) else partial(_same, one) for name, one in made.items()})
    points = [_Point(name=name, value="x:y", group="easyq.metrics") for name in made]
    return Plugins(names or ("*",), registry, found=lambda: points)


def _same(one: Any) -> Any:
    return one


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_sink_gets_records_in_their_order(registry: Registry) -> None:
    sink = Sink()
    one = plugins(registry, billing=sink)
    sent = [usage(execution_id=str(number)) for number in range(1200)]
    one.give(sent[:700])
    one.give(sent[700:])
    one.close(10)
    assert sink.taken == sent


def test_a_labeller_has_metrics_of_its_own(registry: Registry) -> None:
    one = plugins(registry, team=Team)
    one.give([usage(labels={"team": "a"}), usage(), usage(Kind.STARTED, labels={"team": "a"})])
    one.give([usage(Kind.ENDED, labels={"team": "a"}, state="FAILED", ran=1.5)])
    one.close(10)
    found = {i.described.name: dict(i.values) for i in registry.instruments()}
    assert found["easyq.usage.team.jobs.enqueued"] == {("a",): 1, ("nobody",): 1}
    assert found["easyq.usage.team.executions.started"] == {("a",): 1}
    assert found["easyq.usage.team.executions.ended"] == {("a", "FAILED"): 1}
    assert found["easyq.usage.team.run.time"] == {("a",): 1.5}


def test_labels_are_bounded(registry: Registry) -> None:
    one = plugins(registry, team=Team)
    one.give([usage(labels={"team": str(number)}) for number in range(MOST_LABELS + 7)])
    one.close(10)
    counted = registry.counter("easyq.usage.team.jobs.enqueued", "", labels=("team",)).values
    assert len(counted) == MOST_LABELS + 1
    assert counted["other",] == 7


def test_one_that_raises_loses_its_records_and_no_other(registry: Registry) -> None:
    class Broken:
        def take(self, records: Sequence[Usage]) -> None:
            raise RuntimeError("broken")

    sink = Sink()
    one = plugins(registry, broken=Broken, good=sink)
    one.give([usage(), usage()])
    one.close(10)
    assert len(sink.taken) == 2
    dropped = registry.counter("easyq.usage.dropped", "", labels=("plugin", "why"))
    assert dropped.values == {("broken", "raised"): 2}


def test_one_that_hangs_holds_nobody_and_is_bounded(registry: Registry) -> None:
    hanging, sink = Hanging(), Sink()
    one = plugins(registry, hanging=hanging, good=sink)
    one.give([usage()])
    wait_until(lambda: sink.taken)
    for number in range(1, 13):
        one.give([usage()] * 1000)
        wait_until(partial(sink.has, 1000 * number + 1))
    dropped = registry.counter("easyq.usage.dropped", "", labels=("plugin", "why")).values
    # What it holds in its hands is no more in the queue.
    assert 12_000 - MOST_WAITING - 1 <= dropped["hanging", "behind"] <= 12_000 - MOST_WAITING + 1
    one.close(0.1)
    hanging.go.set()


async def _shown(registry: Registry) -> bytes:
    return (await Exports(registry, resource("store", "1")).text(""))[0]


def _leave() -> None:
    sys.exit(7)


def _labelled_by(*names: str) -> Any:
    class Labelled(Team):
        labels = names

    return Labelled


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(object(), id="neither"),
        pytest.param(lambda: 1 / 0, id="raises"),
        pytest.param(_leave, id="leaves"),
        pytest.param(_labelled_by("state"), id="taken"),
        pytest.param(_labelled_by("a", "a"), id="twice"),
        pytest.param(_labelled_by("é"), id="no word"),
    ],
)
def test_one_that_can_t_be_made_is_left_out(registry: Registry, wrong: Any) -> None:
    sink = Sink()
    one = plugins(registry, wrong=wrong, good=sink)
    one.give([usage()])
    dropped = registry.counter("easyq.usage.dropped", "", labels=("plugin", "why")).values
    wait_until(lambda: dropped.get(("wrong", "unusable")) == 1)
    one.give([usage()])
    one.close(10)
    assert dropped == {("wrong", "unusable"): 2}
    assert len(sink.taken) == 2


def test_one_that_hangs_as_it_is_made_holds_nobody(registry: Registry) -> None:
    go = threading.Event()

    def hanging() -> Sink:
        go.wait(60)
        return late

    late, sink = Sink(), Sink()
    one = plugins(registry, hanging=hanging, good=sink)
    one.give([usage()])
    wait_until(lambda: sink.taken)
    go.set()
    one.close(10)
    # What came meanwhile has waited for it.
    assert len(late.taken) == 1


def test_one_that_wants_to_end_the_process_ends_nothing(registry: Registry) -> None:
    class Leaving(Sink):
        def take(self, records: Sequence[Usage]) -> None:
            super().take(records)
            sys.exit(7)

    leaving = Leaving()
    one = plugins(registry, leaving=leaving)
    one.give([usage()])
    wait_until(lambda: leaving.has(1))
    one.give([usage()])
    one.close(10)
    assert leaving.has(2)


def test_odd_values_and_names_are_told_as_well_as_can_be(registry: Registry) -> None:
    class Odd(Team):
        def label(self, record: Usage) -> Sequence[str]:
            return ("half \udcff\n",)

    one = plugins(registry, **{"odd-one é": Odd})
    one.give([usage()])
    one.close(10)
    assert registry.counter("easyq.usage.odd_one__.jobs.enqueued", "", labels=("team",)).values == {("half ?\n",): 1}
    text = asyncio.run(_shown(registry))
    assert b'team="half ?\\n"' in text


def test_only_those_that_are_named(registry: Registry) -> None:
    wanted, other = Sink(), Sink()
    one = plugins(registry, "wanted", "missing", wanted=wanted, other=other)
    one.give([usage()])
    one.close(10)
    assert (len(wanted.taken), len(other.taken)) == (1, 0)
    assert not Plugins((), registry)
