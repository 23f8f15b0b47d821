"""Waits, due times and last moments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_store.domain.policy import Backoff, growing, infra_wait_ms
from easyq_store.domain.timing import Timing, has_expired
from tests.support.store_records import T0


@pytest.mark.parametrize(
    ("retry", "share", "wait"),
    [(1, 0, 1_000), (2, 0, 2_000), (4, 0, 8_000), (10, 0, 300_000), (1, 0.5, 750), (1000, 0, 300_000)],
)
def test_the_default_backoff(retry: int, share: float, wait: int) -> None:
    assert Backoff().wait_ms(retry, share) == wait


def test_backoffs_at_their_bounds() -> None:
    assert Backoff(min_ms=0).wait_ms(5, 0.5) == 0
    assert Backoff(min_ms=5_000, max_ms=1_000).wait_ms(1, 0) == 1_000
    assert Backoff(min_ms=5_000, max_ms=5_000).wait_ms(9, 0) == 5_000
    assert Backoff(factor=1).wait_ms(1000, 0) == 1_000
    assert Backoff(factor=100, max_ms=2_592_000_000).wait_ms(1000, 0) == 2_592_000_000
    assert Backoff(jitter=1).wait_ms(1, 0.999) == 1


@given(
    st.integers(1, 1001),
    st.integers(0, 86_400_000),
    st.floats(1, 100),
    st.integers(0, 2_592_000_000),
)
def test_waits_grow_up_to_the_longest(retry: int, first: int, factor: float, longest: int) -> None:
    wait = growing(retry, first, factor, longest)
    assert 0 <= wait <= longest
    assert growing(retry + 1, first, factor, longest) >= wait * 0.999999


def test_waits_after_infrastructure_failures_are_all_random_and_at_most_a_minute() -> None:
    assert [infra_wait_ms(n, 1.0) for n in (1, 2, 6, 7, 99)] == [1_000, 2_000, 32_000, 60_000, 60_000]
    assert infra_wait_ms(3, 0.0) == 0


@pytest.mark.parametrize(
    ("timing", "due"),
    [
        (Timing(), T0),
        (Timing(start_in=90_000), T0 + 90_000),
        (Timing(start_in=0), T0),
        (Timing(start_at=T0 + 5), T0 + 5),
        (Timing(start_at=T0 - 5), T0),
        (Timing(start_at=0), T0),
    ],
)
def test_due_times(timing: Timing, due: int) -> None:
    assert timing.due_at(T0) == due


@pytest.mark.parametrize(
    ("timing", "latest"),
    [
        (Timing(), None),
        (Timing(expiration=T0 + 9), T0 + 9),
        (Timing(start_deadline=5), T0 + 5),
        (Timing(start_deadline=5, expiration=T0 + 9), T0 + 5),
        (Timing(start_deadline=50, expiration=T0 + 9), T0 + 9),
    ],
)
def test_last_moments(timing: Timing, latest: int | None) -> None:
    assert timing.latest_start(T0) == latest


def test_the_last_moment_itself_is_in_time() -> None:
    assert not has_expired(None, T0)
    assert not has_expired(T0, T0)
    assert has_expired(T0, T0 + 1)
