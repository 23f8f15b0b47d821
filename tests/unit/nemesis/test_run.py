"""Every run has time for its end, whatever its length."""

import pytest

from tests.chaos.nemesis.run import AFTER, for_the_end, to_settle


@pytest.mark.parametrize("mongo", [False, True])
@pytest.mark.parametrize("minutes", [1, 1.5, 5, 55, 120])
def test_after_the_last_fault_there_is_time_to_settle_and_then_to_read(minutes: float, *, mongo: bool) -> None:
    last_fault = minutes * 60 - to_settle(minutes, mongo=mongo)
    settled = minutes * 60 + AFTER - for_the_end(minutes, mongo=mongo)
    assert last_fault >= minutes * 60 * 0.9
    assert settled - last_fault > 70
