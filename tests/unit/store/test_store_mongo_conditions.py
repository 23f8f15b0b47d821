"""Conditions of queries on MongoDB."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from easyq_store.adapters.mongo_conditions import beginning, listed, one_of
from easyq_store.domain.states import ExecutionState, JobState
from easyq_store.ports import ExecutionFilter, JobFilter, Place
from tests.support.store_records import T0

LAST = chr(0x10FFFF)


@given(prefix=st.text(max_size=4), rest=st.text(max_size=4), other=st.text(max_size=6))
@example(prefix=LAST, rest="a", other="b")
@example(prefix=f"a{LAST}", rest="", other="b")
@example(prefix=chr(0xD7FF), rest="a", other=chr(0xE000))
def test_a_prefix_is_a_range_of_strings(prefix: str, rest: str, other: str) -> None:
    bounds = beginning("name", prefix)["name"]

    def within(text: str) -> bool:
        return bounds["$gte"] <= text and ("$lt" not in bounds or text < bounds["$lt"])

    bounds["$gte"].encode()
    bounds.get("$lt", "").encode()
    assert within(prefix + rest)
    if "$lt" in bounds:
        assert within(other) == other.startswith(prefix)


def test_one_value_is_asked_for_plainly() -> None:
    assert one_of([JobState.QUEUED]) == 2
    assert one_of([ExecutionState.QUEUED, ExecutionState.LOST]) == {"$in": [2, 9]}


def test_a_list_without_filters_has_no_conditions() -> None:
    assert listed(JobFilter(), None) == ({}, {})


def test_a_page_begins_after_its_place_within_the_filter() -> None:
    where = ExecutionFilter(task_id="mail", created_from=T0, created_before=T0 + 9)
    walk = {
        "taskId": "mail",
        "createdAt": {"$gte": T0, "$lt": T0 + 9, "$lte": T0 + 5},
        "$or": [{"createdAt": {"$lt": T0 + 5}}, {"_id": {"$lt": "x"}}],
    }
    assert listed(where, Place(created_at=T0 + 5, id="x")) == (walk, {})


def test_a_list_walks_one_index_and_looks_at_the_rest() -> None:
    where = JobFilter(task_id="mail", states=(JobState.QUEUED,), labels=("a=1", "b=2"), ended_before=T0, kept_only=True)
    walk, rest = listed(where, None)
    assert walk == {"labels": "a=1", "createdAt": {"$lt": T0}}
    assert rest == {
        "taskId": "mail",
        "state": 2,
        "labels": {"$all": ["b=2"]},
        "endedAt": {"$lt": T0},
        "deleteRequested": {"$ne": True},
    }
    image = JobFilter(task_id="mail", image="r.example:5000/a+b", states=(JobState.QUEUED,))
    walk, rest = listed(image, None)
    assert walk == {"taskId": "mail", "state": 2}
    assert re.search(rest["image"]["$regex"], "r.example:5000/a+b:1")
    assert not re.search(rest["image"]["$regex"], "r.example:5000/a+b/c:1")
