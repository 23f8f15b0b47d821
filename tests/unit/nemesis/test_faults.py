"""The plan of faults is the seed's, and each fault ends before the next one hits the same thing."""

import pytest

from tests.chaos.nemesis.faults import ALL, DATABASE_LINK, WEIGHTS, Fault, plan

HOSTS = ("a", "b", "c")
MINUTE = 60.0


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_plans_the_same_faults(seed: int) -> None:
    faults = plan(seed, 5 * MINUTE, HOSTS)
    assert faults == plan(seed, 5 * MINUTE, HOSTS)
    assert faults != plan(seed + 1, 5 * MINUTE, HOSTS)
    assert len(faults) > 15
    assert [Fault.of(fault.as_json()) for fault in faults] == faults


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_ends_and_none_hits_what_another_one_holds(seed: int) -> None:
    faults = plan(seed, 5 * MINUTE, HOSTS)
    assert all(fault.at > 0 and fault.lasts >= 0 and fault.until <= 5 * MINUTE for fault in faults)
    for number, one in enumerate(faults):
        for other in faults[number + 1 :]:
            together = one.at < other.until and other.at < one.until
            things = {thing(one.target), thing(other.target)}
            assert not (together and (len(things) == 1 or ALL in things)), (one, other)


def thing(target: str) -> str:
    """An agent and its watchdog are one runner; the names of agents' connections have a further part."""
    parts = target.split("-")
    return f"runner-{parts[1]}" if parts[0] in {"agent", "watchdog"} and len(parts) == 2 else target


def test_a_long_run_has_every_kind_and_a_chosen_one_only_that() -> None:
    assert {fault.kind for fault in plan(1, 120 * MINUTE, HOSTS)} == set(WEIGHTS)
    assert {fault.kind for fault in plan(1, 5 * MINUTE, HOSTS, kinds=["flush", "clock"])} == {"flush", "clock"}


@pytest.mark.parametrize("seed", range(5))
def test_a_mongodb_is_cut_off_and_has_no_disk(seed: int) -> None:
    faults = plan(seed, 120 * MINUTE, HOSTS, mongo=True)
    assert DATABASE_LINK in {fault.target for fault in faults if fault.kind == "partition"}
    assert "disk-full" not in {fault.kind for fault in faults}
    assert DATABASE_LINK not in {fault.target for fault in plan(seed, 120 * MINUTE, HOSTS)}


def test_an_agent_that_is_isolated_is_not_cut_otherwise() -> None:
    for seed in range(20):
        faults = plan(seed, 5 * MINUTE, HOSTS, kinds=["isolate", "partition"])
        for whole in (fault for fault in faults if fault.kind == "isolate"):
            for part in faults:
                if part.target.startswith(f"{whole.target}-"):
                    assert part.until < whole.at or whole.until < part.at


def test_chosen_targets() -> None:
    assert {fault.target for fault in plan(1, 5 * MINUTE, HOSTS, kinds=["kill"], targets=["store"])} == {"store"}
    with pytest.raises(ValueError, match="none of"):
        plan(1, 5 * MINUTE, HOSTS, kinds=["flush"], targets=["store"])
