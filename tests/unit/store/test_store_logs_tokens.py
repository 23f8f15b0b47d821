"""Where log bytes go, page tokens, images."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_chassis.errors import InvalidArgument
from easyq_store.domain import tokens
from easyq_store.domain.images import matches, short_name
from easyq_store.domain.logs import Piece, Taken, final_size, fit, from_byte
from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState, Stream
from tests.support.store_records import T0, chunk, execution

RUNNING = execution(state=ExecutionState.RUNNING, epoch=1)
ENDED = execution(state=ExecutionState.SUCCEEDED, epoch=1, stdout_size=6, stderr_size=0)


def piece(data: bytes, offset: int, epoch: int = 1) -> Piece:
    return Piece(execution_id="job-1-1", epoch=epoch, stream=Stream.STDOUT, offset=offset, data=data)


@pytest.mark.parametrize(
    ("made", "sent", "end", "taken", "stored"),
    [
        (RUNNING, piece(b"abc", 0), 0, Taken.OK, (0, b"abc")),
        (RUNNING, piece(b"abc", 4), 4, Taken.OK, (4, b"abc")),
        (RUNNING, piece(b"abc", 2), 4, Taken.OK, (4, b"c")),
        (RUNNING, piece(b"abc", 1), 4, Taken.OK, None),
        (RUNNING, piece(b"", 4), 4, Taken.OK, None),
        (RUNNING, piece(b"abc", 5), 4, Taken.GAP, None),
        (RUNNING, piece(b"abc", 0, epoch=2), 0, Taken.STALE, None),
        (None, piece(b"abc", 0), 0, Taken.STALE, None),
        (ENDED, piece(b"abc", 4), 4, Taken.OK, (4, b"ab")),
        (ENDED, piece(b"abc", 6), 6, Taken.OK, None),
    ],
)
def test_fitting(made: Execution | None, sent: Piece, end: int, taken: Taken, stored: tuple[int, bytes] | None) -> None:
    verdict, fitted = fit(sent, made, end, at=T0)
    assert verdict is taken
    assert (None if fitted is None else (fitted.offset, fitted.data)) == stored


@given(st.binary(min_size=1, max_size=60), st.data())
def test_however_often_and_from_where_it_is_sent_the_bytes_are_the_same(whole: bytes, data: st.DataObject) -> None:
    stored = b""
    for _ in range(20):
        start = data.draw(st.integers(0, len(whole)))
        stop = data.draw(st.integers(start, len(whole)))
        _, fitted = fit(piece(whole[start:stop], start), RUNNING, len(stored), at=T0)
        if fitted is not None:
            assert fitted.offset == len(stored)
            stored += fitted.data
        assert whole.startswith(stored)


def test_final_sizes_and_cuts() -> None:
    assert (final_size(ENDED, Stream.STDOUT), final_size(ENDED, Stream.STDERR)) == (6, 0)
    assert final_size(RUNNING, Stream.STDOUT) is None
    whole = chunk(b"abcdef", 10)
    assert from_byte(whole, 10) is whole
    assert from_byte(whole, 12) == chunk(b"cdef", 12)


def test_tokens_come_back_for_their_own_list_only() -> None:
    token = tokens.encode("filters", [5, "x"])
    assert tokens.decode(token, "filters", (int, str)) == [5, "x"]
    assert tokens.decode("", "filters", (int, str)) is None
    with pytest.raises(InvalidArgument, match="other filters") as caught:
        tokens.decode(token, "others", (int, str))
    assert [problem.field for problem in caught.value.fields] == ["pageToken"]


def forged(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "ü",
        "%%%",
        forged(b"{}"),
        forged(b"[1]"),
        forged(b"[" * 3000),
        forged(b'[2,"x",5,"x"]'),
        tokens.encode("filters", ["x", 5]),
        tokens.encode("filters", [True, "x"]),
        tokens.encode("filters", [5, "x", 1]),
        tokens.encode("filters", [2**63, "x"]),
        tokens.encode("filters", [-(10**40), "x"]),
        tokens.encode("filters", [5, "\ud800"]),
        tokens.encode("filters", [5, "\0"]),
        forged(b"\xff\xfe"),
    ],
)
def test_forged_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="pageToken"):
        tokens.decode(token, "filters", (int, str))


def test_images_are_found_by_reference_and_by_name() -> None:
    image = "registry.example:5000/team/echo:1"
    assert short_name(image) == "echo:1"
    assert short_name("busybox") == "busybox"
    assert matches(image, "echo")
    assert matches(image, "registry.example:5000/te")
    assert not matches(image, "team")
