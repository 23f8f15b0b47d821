"""When two requests for a job are the same."""

from typing import Any

import pytest
from google.protobuf import json_format

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.wishes import Wish, differences, same, wish

OLD = {
    "retries": 0,
    "priority": 0,
    "pull": "MISSING",
    "privileged": False,
    "stopGrace": "10s",
    "backoff": {"min": "1s", "factor": 2},
    "resources": {},
}
NEW = {**OLD, "retries": 7, "backoff": {"min": "5s", "factor": 2}}


def spec(**fields: Any) -> JobSpec:
    return json_format.ParseDict({"image": "busybox:1", **fields}, JobSpec())


def asking(fields: dict[str, Any], defaults: dict[str, Any]) -> Wish:
    merged = {**defaults, **fields}
    for part in ("backoff", "resources"):
        merged[part] = {**defaults[part], **fields.get(part, {})}
    return wish(spec(**fields).SerializeToString(), spec(**merged))


@pytest.mark.parametrize("first", [{}, {"backoff": {}}, {"cron": "@daily", "metadata": {"a": 1}, "envs": {"A": "1"}}])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"priority": 0},
        {"pull": "MISSING"},
        {"privileged": False},
        {"stopGrace": "10s"},
        {"backoff": {}},
        {"backoff": {"factor": 2}},
        {"resources": {}},
        {"resources": {"cpus": 0}},
        {"priority": 0, "resources": {}, "backoff": {"factor": 2}},
    ],
    ids=str,
)
def test_neither_other_defaults_nor_one_spelled_out_make_another_request(
    first: dict[str, Any], more: dict[str, Any]
) -> None:
    one, other = asking(first, OLD), asking({**first, **more}, NEW)
    assert same(one, other)
    assert same(other, one)
    assert differences(one, other) == (JobSpec(), JobSpec())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"retries": 7}, {"retries": 7}),
        # It was the default, and is not any more.
        ({"retries": 1, "priority": 0}, {"retries": 1}),
        ({"backoff": {"min": "5s", "factor": 2}}, {"backoff": {"min": "5s"}}),
        ({"backoff": {"jitter": 0}}, {"backoff": {"jitter": 0}}),
        ({"resources": {"cpus": 2}, "backoff": {}}, {"resources": {"cpus": 2}}),
        ({"envs": {"A": "2"}}, {"envs": {"A": "2"}}),
        ({"metadata": {"a": 2}}, {"metadata": {"a": 2}}),
        ({"retryOn": ["75"]}, {"retryOn": ["75"]}),
        ({"startIn": "5s"}, {"startIn": "5s"}),
    ],
    ids=str,
)
def test_what_differs_is_told_and_nothing_else(change: dict[str, Any], told: dict[str, Any]) -> None:
    one, other = asking({}, OLD), asking(change, NEW)
    before = JobSpec.FromString(other.asked.SerializeToString())
    _, shown = differences(one, other)
    assert json_format.MessageToDict(shown) == json_format.MessageToDict(json_format.ParseDict(told, JobSpec()))
    assert not same(one, other)
    assert not same(other, one)
    assert other.asked == before


def test_parts_that_only_one_has_are_there_in_both() -> None:
    left, right = differences(asking({}, OLD), asking({"resources": {"cpus": 2}}, OLD))
    assert (left.HasField("resources"), left.resources.ListFields(), right.resources.cpus) == (True, [], 2)


def test_one_is_taken_for_the_other_where_it_is_not_told() -> None:
    shown = asking({}, OLD).spec
    old = wish(b"", shown)
    assert same(old, asking({}, OLD))
    assert same(old, asking({"priority": 0, "retries": 0}, {**OLD, "retries": 7}))
    assert not same(old, asking({"timeout": "5s"}, OLD))
    assert not same(old, asking({"retries": 1}, OLD))
    # An unset field is not what a default is.
    assert not same(asking({"timeout": "5s"}, OLD), wish(spec().SerializeToString(), JobSpec()))
    assert not same(asking({}, OLD), wish(spec(timeout="5s").SerializeToString(), JobSpec()))
    assert same(asking({}, OLD), wish(spec().SerializeToString(), JobSpec()))
