"""Metadata as lists find jobs by it, and images by name."""

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from easyq.v1.spec_pb2 import JobSpec
from easyq_store.convert.spec import metadata_of
from easyq_store.domain.images import is_named
from easyq_store.domain.metadata import MOST_TERMS, terms


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, ()),
        ({"a": None, "b": [], "c": {}}, ()),
        ({"b": "x", "a": "y"}, ("a=y", "b=x")),
        ({"order": {"id": 42, "of": {"who": "me=you"}}}, ("order.id=42", "order.of.who=me=you")),
        ({"n": [1, 1.5, True, "1", {"m": -2}]}, ("n.m=-2", "n=1", "n=1.5", "n=true")),
        ({"a": "x" * 510, "b": "x" * 511, "c": "ü" * 256}, ("a=" + "x" * 510,)),
        ({"f": False, "big": 2**53}, ("big=9007199254740992", "f=false")),
    ],
)
def test_terms(metadata: dict[str, object], expected: tuple[str, ...]) -> None:
    assert metadata_of(JobSpec(metadata=ParseDict(metadata, Struct()))) == expected


def test_a_job_has_a_bounded_number_of_them() -> None:
    assert len(terms({"n": [str(number) for number in range(1000)]})) == MOST_TERMS
    assert metadata_of(JobSpec()) == ()


@pytest.mark.parametrize(
    ("image", "name", "named"),
    [
        ("echo", "echo", True),
        ("echo:1", "echo", True),
        ("echo:1@sha256:00", "echo", True),
        ("echo@sha256:00", "echo", True),
        ("echo:1@sha256:00", "echo:1", True),
        ("echo:12", "echo:1", False),
        ("echo2", "echo", False),
        ("r:5000/echo", "r", False),
        ("r:5000/echo:1", "r:5000/echo", True),
        ("team/echo", "echo", False),
        ("echo", "", True),
    ],
)
def test_an_image_is_named(image: str, name: str, *, named: bool) -> None:
    assert is_named(image, name) is named
