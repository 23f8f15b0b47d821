"""Byte ranges as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.ranges import ByteRange, Unsatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-", 0, 10),
        ("bytes=0-0", 0, 1),
        ("bytes=3-5", 3, 6),
        ("bytes=3-99", 3, 10),
        ("bytes=9-", 9, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("bytes= 2-4 ", 2, 5),
    ],
)
def test_ranges_of_ten_bytes(header: str, first: int, end: int) -> None:
    found = parse_range(header, 10)
    assert found == ByteRange(first=first, end=end)
    assert len(found or ()) == end - first


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-3",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=" + "9" * 30 + "-",
    ],
)
def test_what_is_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=-1", 0), ("bytes=0-", 0)]
)
def test_what_no_byte_is_in(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=20), st.integers(0, 1000))
def test_a_range_lies_within(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found.first < found.end <= size
