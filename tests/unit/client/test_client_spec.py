"""Specs from plain Python values."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from easyq.spec import job_spec


def test_strings_are_split_as_a_shell_would_and_lists_are_kept() -> None:
    assert list(job_spec("i", "sh -c 'echo $A'").command) == ["sh", "-c", "echo $A"]
    assert list(job_spec("i", ["a b"], entrypoint="x y").command) == ["a b"]
    assert list(job_spec("i", entrypoint=["x y"]).entrypoint) == ["x y"]


def test_what_is_left_out_stays_unset() -> None:
    spec = job_spec("i")
    assert spec.ListFields() == [(spec.DESCRIPTOR.fields_by_name["image"], "i")]
    assert not spec.HasField("retries")


@pytest.mark.parametrize("value", ["1m30s", 90, 90.0, timedelta(seconds=90)])
def test_durations(value: Any) -> None:
    spec = job_spec("i", timeout=value, start_in=value)
    assert spec.timeout.ToMilliseconds() == spec.start_in.ToMilliseconds() == 90_000


def test_now_is_a_start_in_of_nothing() -> None:
    assert job_spec("i", start_in=0).HasField("start_in")


def test_times_need_a_zone_and_exclude_each_other() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert job_spec("i", start_at=at).start_at.ToDatetime(UTC) == at
    with pytest.raises(ValueError, match="time zone"):
        job_spec("i", start_at=at.replace(tzinfo=None))
    with pytest.raises(ValueError, match="exclude"):
        job_spec("i", start_at=at, start_in=1)
    with pytest.raises(ValueError, match="exclude"):
        job_spec("i", cron="@daily", start_in=1)


def test_a_recurring_spec() -> None:
    spec = job_spec("i", cron="0 4 * * *", time_zone="Europe/Berlin", agent_labels={"gpu": "a100"})
    assert (spec.cron, spec.time_zone, dict(spec.agent_labels)) == ("0 4 * * *", "Europe/Berlin", {"gpu": "a100"})
    assert not job_spec("i").HasField("cron")


def test_the_other_fields() -> None:
    spec = job_spec("i", envs={"A": "1"}, metadata={"n": [1, None]}, labels={"l": "v"}, retries=0, priority=-3)
    assert (spec.envs["A"], spec.labels["l"], spec.retries, spec.priority) == ("1", "v", 0, -3)
    assert spec.HasField("retries")
    assert spec.metadata.fields["n"].list_value.values[0].number_value == 1
