"""Where two specs differ."""

from typing import Any

import pytest

from easyq_gateway.domain.difference import differing

MAPS = frozenset({"envs"})


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["spec.a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["spec.a.c"]),
        ({"a": None}, {"a": {"b": 1}}, ["spec.a"]),
        ({"envs": {"A": "1", "B": "2"}}, {"envs": {"A": "1", "C": "2"}}, ['spec.envs["B"]', 'spec.envs["C"]']),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["spec.a"]),
        ({"a": True}, {"a": 1}, ["spec.a"]),
        ({"a": 1}, {}, ["spec.a"]),
        ({}, {"a": 1}, ["spec.a"]),
    ],
)
def test_paths(one: Any, other: Any, paths: list[str]) -> None:
    assert list(differing(one, other, "spec", MAPS)) == paths
