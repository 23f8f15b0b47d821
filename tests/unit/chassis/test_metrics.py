"""Instruments, what they say to Prometheus and OTLP, and the bounds of their labels."""

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from easyq_chassis.metrics import Registry, TaskLabels
from easyq_chassis.metrics.data import metrics_of
from easyq_chassis.metrics.export import Exports, resource
from easyq_chassis.metrics.instruments import MOST_SERIES
from easyq_chassis.patterns import Pattern

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def exported(registry: Registry, accept: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async def twice() -> bytes:
        exports = Exports(registry, resource("store", "1.2.3"))
        await exports.text(accept)
        # Nothing is told only once.
        return (await exports.text(accept))[0]

    text = asyncio.run(twice())
    families = (open_metrics if accept else plain)(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_both_forms_say_what_was_measured(accept: str) -> None:
    registry = Registry()
    counted = registry.counter("easyq.jobs", "Jobs.", unit="{job}", labels=("task",))
    counted.add(1, "mail")
    counted.add(2, "mail")
    registry.gauge("easyq.age", "An age.", unit="s", labels=("pool",)).set(4.5, "gpu")
    registry.counter("easyq.log", "Bytes.", unit="By").add(7)
    times = registry.histogram("easyq.wait", "Waits.", labels=("task",), bounds=(0.1, 1))
    for value in (0.1, 0.5, 3):
        times.record(value, "mail")
    found = exported(registry, accept)
    assert found[key("easyq_jobs_total", task="mail")] == 3
    assert found[key("easyq_age_seconds", pool="gpu")] == 4.5
    assert found[key("easyq_log_bytes_total")] == 7
    buckets = {le: found[key("easyq_wait_seconds_bucket", task="mail", le=le)] for le in ("0.1", "1.0", "+Inf")}
    assert buckets == {"0.1": 1, "1.0": 2, "+Inf": 3}
    assert found[key("easyq_wait_seconds_sum", task="mail")] == pytest.approx(3.6)
    assert found[key("easyq_wait_seconds_count", task="mail")] == 3
    assert found[key("easyq_build_info", version="1.2.3", service_name="easyq-store")] == 1


async def test_the_form_is_what_is_accepted() -> None:
    exports = Exports(Registry(), resource("store", "1"))
    body, form = await exports.text(OPEN_METRICS)
    assert form.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert (await exports.text("*/*"))[1].startswith("text/plain")


async def test_many_who_ask_at_once_share_a_text_and_none_holds_the_loop() -> None:
    registry = Registry()
    gauge = registry.gauge("easyq.age", "An age.")
    reading, go, read = threading.Event(), threading.Event(), 0

    def slow() -> dict[tuple[str, ...], float]:
        nonlocal read
        read += 1
        reading.set()
        go.wait(60)
        return {(): float(read)}

    gauge.watch(slow)
    exports = Exports(registry, resource("store", "1"))
    first = asyncio.create_task(exports.text(""))
    await asyncio.to_thread(reading.wait, 60)
    others = [asyncio.create_task(exports.text("")) for _ in range(20)]
    gone = asyncio.create_task(exports.text(""))
    await asyncio.sleep(0)
    gone.cancel()
    go.set()
    assert b"easyq_age 1.0" in (await first)[0]
    # What they are told is of after they asked.
    assert all(b"easyq_age 2.0" in text for text, _ in await asyncio.gather(*others))
    assert read == 2


def test_what_was_never_used_says_nothing() -> None:
    registry = Registry()
    registry.counter("easyq.never", "Never.")
    assert metrics_of(registry) == []


def test_the_same_name_is_the_same_instrument() -> None:
    registry = Registry()
    one = registry.counter("easyq.x", "X.", labels=("a",))
    assert registry.counter("easyq.x", "X.", labels=("a",)) is one
    with pytest.raises(ValueError, match=r"easyq\.x"):
        registry.gauge("easyq.x", "X.", labels=("a",))
    with pytest.raises(ValueError, match=r"easyq\.x"):
        registry.counter("easyq.x", "X.", labels=("b",))
    with pytest.raises(ValueError, match="not \\('1', '2'\\)"):
        one.add(1, "1", "2")


def test_labels_are_bounded_whatever_comes() -> None:
    registry = Registry()
    counted = registry.counter("easyq.x", "X.", labels=("a",))
    times = registry.histogram("easyq.y", "Y.", labels=("a",))
    level = registry.gauge("easyq.z", "Z.", labels=("a",))
    for number in range(MOST_SERIES + 50):
        counted.add(1, str(number))
        times.record(1, str(number))
        level.set(1, str(number))
    assert len(counted.values) == len(times.values) == len(level.values) == MOST_SERIES + 1
    assert counted.values["other",] == 50
    assert sum(counted.values.values()) == MOST_SERIES + 50
    assert times.values["other",][-1] == 50
    level.replace({(str(number),): float(number) for number in range(MOST_SERIES + 50)})
    assert len(level.values) == MOST_SERIES
    assert ("0",) not in level.values


def test_a_gauge_shows_what_it_watches_until_that_ends() -> None:
    registry = Registry()
    gauge = registry.gauge("easyq.x", "X.", labels=("a",))
    gauge.set(1, "set")
    end = gauge.watch(lambda: {("watched",): 2.0})
    assert gauge.now() == {("set",): 1.0, ("watched",): 2.0}
    end()
    end()
    assert gauge.now() == {("set",): 1.0}


def test_tasks_have_their_own_label_by_pattern_and_only_so_many() -> None:
    tasks = TaskLabels(Pattern("mail-.*"), 2)
    assert [tasks.of(name) for name in ("mail-a", "report", "mail-b", "mail-c", "mail-a")] == [
        *("mail-a", "other", "mail-b", "other", "mail-a"),
    ]
    for number in range(20_000):
        assert tasks.of(f"mail-{number}") == "other"
    assert tasks.of("mail-b") == "mail-b"


def test_push_gets_histograms_as_opentelemetry_has_them() -> None:
    registry = Registry()
    registry.histogram("easyq.wait", "Waits.", bounds=(1, 2)).record(1.5)
    (metric,) = metrics_of(registry)
    (point,) = metric.data.data_points
    told: Any = point
    assert (metric.name, metric.unit) == ("easyq.wait", "s")
    assert (list(told.bucket_counts), told.count, told.sum) == ([0, 1, 0], 1, 1.5)
