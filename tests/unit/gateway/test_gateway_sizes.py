"""Sizes with Docker's suffixes."""

import pytest

from easyq_gateway.domain.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("7b", 7),
        ("64k", 65536),
        ("512m", 536870912),
        ("2G", 2147483648),
        ("1.5g", 1610612736),
        (" 1m ", 1048576),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1t", "1mb", "1e3", "0x10", "١", "1.5.2m", "9" * 21])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_part_of_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.5b")
