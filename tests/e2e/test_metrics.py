"""Metrics of a whole farm, compared with what its jobs did."""

import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.farm import Rest, UpFarm, shell
from tests.support.scraping import Scrape, scrape
from tests.support.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"
SERVICES = ("gateway", "scheduler", "store", "dispatcher", "runner-1", "runner-2")


@pytest.fixture
def task() -> str:
    """A task that has a label of its own: the farm was told so."""
    return f"metered-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def grown(farm: UpFarm) -> Callable[..., float]:
    """`grown(service, name, **labels)`: how much a value has grown since the test began."""
    # An agent may come a moment after the others are ready.
    before = {name: wait_until(partial(scrape, url), 30) for name, url in farm.metrics.items()}

    def value(service: str, name: str, **labels: str) -> float:
        return scrape(farm.metrics[service]).value(name, **labels) - before[service].value(name, **labels)

    return value


def test_every_outcome_is_counted_as_it_happened(
    farm: UpFarm, rest: Rest, task: str, grown: Callable[..., float]
) -> None:
    stopped = rest.enqueue(task, shell("sleep 100", stopGrace="0s"))["jobId"]
    wait_until(lambda: rest.job(stopped)["executions"][0]["state"] == "RUNNING", 20)
    used = sum(scrape(farm.metrics[name]).value("easyq_agent_slots_used") for name in ("runner-1", "runner-2"))
    assert used >= 1
    wait_until(lambda: scrape(farm.metrics["dispatcher"]).value("easyq_pool_running", pool="default") >= 1, 20)
    rest.stop(stopped)
    specs = [
        shell("echo hello; echo you >&2; sleep 0.4"),
        shell("exit 3", retries=1, backoff={"min": "0.1s"}),
        shell("exit 127"),
        shell("exit 137"),
        shell("sleep 100", timeout="1s", stopGrace="0s"),
        shell("true", agentLabels={"no": "such"}, startDeadline="0.5s"),
        {"image": "nobody-has-this:1", "pull": "NEVER"},
        shell("true", startIn="0.5s"),
    ]
    jobs = [rest.enqueue(task, spec)["jobId"] for spec in specs]
    series = rest.enqueue(f"{task}-fires", shell("true", cron="@every 1s", maxRuns=1))["jobId"]
    other = rest.enqueue(task.replace("metered", "plain"), shell("true"))["jobId"]
    rest.wait_all([stopped, *jobs, series, other])

    ended = {
        ("SUCCEEDED", "success", ""): 2,
        ("FAILED", "error", "NONZERO_EXIT"): 2,
        ("FAILED", "command", "NONZERO_EXIT"): 1,
        ("FAILED", "signal", "NONZERO_EXIT"): 1,
        ("TIMED_OUT", "timeout", "TIMEOUT"): 1,
        ("EXPIRED", "none", "START_DEADLINE"): 1,
        ("FAILED", "none", "IMAGE_NOT_FOUND"): 1,
    }
    found = {
        (labels["state"], labels["exit_class"], labels["reason"]): value
        for labels, value in scrape(farm.metrics["store"]).of("easyq_executions_ended_total", task=task)
        if labels["state"] != "STOPPED"
    }
    assert found == ended
    (has, value), *more = scrape(farm.metrics["store"]).of("easyq_executions_ended_total", task=task, state="STOPPED")
    assert (has["pool"], has["exit_class"], has["reason"], value, more) == (
        *("default", "signal", "STOP_REQUESTED", 1, []),
    )
    store: Callable[..., float] = lambda name, **labels: grown("store", name, **labels)  # noqa: E731
    assert store("easyq_jobs_enqueued_total", task=task) == 9
    assert store("easyq_jobs_enqueued_total", task=f"{task}-fires") == 1
    # A task that the setting does not name.
    assert store("easyq_jobs_enqueued_total", task="other") >= 1
    assert store("easyq_executions_created_total", task=task, trigger="ENQUEUE") == 9
    assert store("easyq_executions_created_total", task=f"{task}-fires", trigger="SCHEDULE") == 1
    assert store("easyq_executions_retried_total", task=task, kind="user") == 1
    # All but the one that no host could take.
    assert store("easyq_execution_wait_duration_seconds_count", task=task, pool="default") == 9
    assert store("easyq_execution_wait_duration_seconds_sum", task=task) > 0
    assert store("easyq_execution_run_duration_seconds_count", task=task, pool="default") == 8
    assert store("easyq_execution_run_duration_seconds_sum", task=task) > 1.4
    assert store("easyq_schedule_lateness_seconds_count", kind="start") >= 1
    assert store("easyq_schedule_lateness_seconds_count", kind="retry") >= 1
    assert store("easyq_schedule_lateness_seconds_count", kind="fire") >= 1
    assert store("easyq_log_stored_bytes_total", stream="stdout") >= len("hello\n")
    assert store("easyq_log_stored_bytes_total", stream="stderr") >= len("you\n")
    for operation in ("submit", "assign", "report"):
        assert store("db_client_operation_duration_seconds_count", db_system_name="sqlite", db_operation_name=operation)
    assert grown("dispatcher", "db_client_operation_duration_seconds_count", db_system_name="redis") > 0
    posted = {"http_route": "/tasks/{task_id}", "http_request_method": "POST", "http_response_status_code": "200"}
    assert grown("gateway", "http_server_request_duration_seconds_count", **posted) == 11
    assert grown("gateway", "easyq_rpc_client_batch_items_total", batch="Submit") >= 9
    # What the gateway asked of the store, as it saw it itself: by the store's address.
    (asked, *_) = scrape(farm.metrics["gateway"]).of(
        "rpc_client_call_duration_seconds_count",
        rpc_method="easyq_internal.store.v1.JobStoreService/GetJob",
        rpc_response_status_code="OK",
    )
    assert asked[0]["server_address"]
    assert asked[1] >= 9


def test_what_waits_is_shown_with_its_age_and_its_pool(farm: UpFarm, rest: Rest, task: str) -> None:
    jobs = [rest.enqueue(task, shell("true", agentLabels={"no": "such"}))["jobId"] for _ in range(3)]

    def seen() -> Scrape:
        return scrape(farm.metrics["dispatcher"])

    place = {"task": task, "pool": "default"}
    wait_until(lambda: seen().value("easyq_queue_depth", **place) == 3, 30)
    young = seen().value("easyq_queue_oldest_age_seconds", **place)
    wait_until(lambda: seen().value("easyq_queue_oldest_age_seconds", **place) > young, 30)
    assert seen().value("easyq_pool_slots", pool="default") == 6
    limit = {"limit": "limited-.*"}
    assert (seen().value("easyq_limit_most", **limit), len(seen().of("easyq_limit_running", **limit))) == (2, 1)
    assert {has["phase"] for has, _ in seen().of("easyq_breakers", kind="HOST")} == {"OPEN", "HALF_OPEN", "CLOSED"}
    for job in jobs:
        rest.stop(job)
    wait_until(lambda: not seen().of("easyq_queue_depth", **place), 30, message="an empty queue is not shown")


def test_every_service_shows_itself(farm: UpFarm, rest: Rest) -> None:
    rest.get("/status")
    assert set(farm.metrics) == set(SERVICES)
    served: set[str] = set()
    for url in farm.metrics.values():
        wait_until(partial(_is_ready, url), 30)
    for name, url in farm.metrics.items():
        found = scrape(url, newer_form=True)
        served |= found.families
        kind = name.partition("-")[0]
        ((build, one),) = found.of("easyq_build_info")
        assert (build["service_name"], one) == (f"easyq-{kind}", 1)
        assert found.value("easyq_ready") > 0, name
        # Looked at now and then, and one that was killed before may just have begun.
        wait_until(partial(_has_lag, url), 30)
        assert found.value("process_cpu_time_seconds_total") > 0
        assert _get(f"{url}/livez") == (200, "alive\n")
        assert _get(f"{url}/readyz")[0] == 200
    # The same as on the gateway's own port.
    assert scrape(rest.url).value("easyq_build_info", service_name="easyq-gateway") == 1
    told = PAGE.read_text(encoding="utf-8")
    assert [name for name in sorted(served - {"target"}) if not re.search(rf"`{name}(_total)?`", told)] == []


def test_what_can_t_do_its_work_is_alive_and_not_ready(new_farm: Any) -> None:
    farm = new_farm([])
    runner = farm.metrics["runner"]
    wait_until(lambda: _get(f"{runner}/livez")[0] == 200, 30)
    wait_until(lambda: "Docker Engine" in _get(f"{runner}/readyz")[1], 30)
    assert _get(f"{runner}/readyz")[0] == 503
    assert scrape(runner).value("easyq_ready") == scrape(runner).value("easyq_agent_engine_up") == 0
    wait_until(lambda: scrape(farm.metrics["store"]).value("easyq_agents", state="UNHEALTHY") == 1, 20)
    assert f"gateway {farm.metrics['gateway']}" in farm.log


def _has_lag(url: str) -> bool:
    return scrape(url).value("easyq_event_loop_lag_seconds_count") > 0


def _is_ready(url: str) -> bool:
    return _get(f"{url}/readyz")[0] == 200


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
