"""What executions ask for, what hosts offer, and the texts of both."""

from __future__ import annotations

import pytest

from easyq_dispatcher.domain.needs import (
    ALL_GPUS,
    NOTHING,
    Needs,
    Offer,
    added,
    has_room,
    missing_labels,
    shortages,
    suits,
)

ALL = Needs(cpu_millis=1_500, memory=3 << 30, gpus=ALL_GPUS, labels=(("a", 'x"\n'), ("b", "é:1")))
HOST = Offer(cpu_millis=4_000, memory=8 << 30, gpus=2)


@pytest.mark.parametrize("needs", [NOTHING, ALL, Needs(cpu_millis=1), Needs(labels=(("a", ":"),))])
def test_a_signature_has_all_of_it(needs: Needs) -> None:
    assert Needs.from_signature(needs.signature) == needs
    assert "\n" not in needs.signature


def test_the_same_needs_have_one_signature() -> None:
    assert Needs().signature == NOTHING.signature == ""
    assert Needs(gpus=1).signature == Needs(gpus=1).signature != Needs(memory=1).signature


def test_needs_in_words() -> None:
    assert str(NOTHING) == "a slot"
    assert str(Needs(cpu_millis=1_500, memory=3 << 29, gpus=2)) == "1.5 cpus, 1.5 GiB of memory, 2 GPUs"
    assert str(Needs(gpus=ALL_GPUS, memory=100)) == "100 bytes of memory, all GPUs of a host"
    assert str(Needs(labels=(("gpu", "a100"),))) == "label gpu=a100"
    assert str(HOST) == "4 cpus, 8 GiB of memory, 2 GPUs"


@pytest.mark.parametrize(
    ("offer", "needs", "short"),
    [
        (HOST, Needs(cpu_millis=4_000, memory=8 << 30, gpus=2), []),
        (HOST, Needs(cpu_millis=4_001, memory=(8 << 30) + 1, gpus=3), ["cpus", "memory", "GPUs"]),
        (HOST, Needs(gpus=ALL_GPUS), []),
        (Offer(cpu_millis=1), Needs(gpus=ALL_GPUS), ["GPUs"]),
        (Offer(), Needs(cpu_millis=1, memory=1, gpus=1), []),
    ],
)
def test_what_a_host_is_too_small_for(offer: Offer, needs: Needs, short: list[str]) -> None:
    assert shortages(offer, needs) == short
    assert suits(offer, (), needs) is not bool(short)


def test_labels_have_to_be_there() -> None:
    needs = Needs(labels=(("gpu", "a100"), ("zone", "x")))
    assert missing_labels((("gpu", "h100"), ("zone", "x")), needs) == [("gpu", "a100")]
    assert suits(HOST, (("a", "b"), ("gpu", "a100"), ("zone", "x")), needs)
    assert not suits(HOST, (), needs)


def test_room_is_what_others_leave() -> None:
    used = added(added(Offer(), Needs(cpu_millis=3_000, gpus=1)), Needs(memory=8 << 30))
    assert used == Offer(cpu_millis=3_000, memory=8 << 30, gpus=1)
    assert has_room(HOST, used, Needs(cpu_millis=1_000, gpus=1))
    assert not has_room(HOST, used, Needs(cpu_millis=1_001))
    assert not has_room(HOST, used, Needs(memory=1))
    assert not has_room(HOST, used, Needs(gpus=2))
    assert not has_room(HOST, used, Needs(gpus=ALL_GPUS))
    assert not has_room(HOST, added(Offer(), Needs(gpus=ALL_GPUS)), Needs(gpus=1))
    assert has_room(Offer(), used, Needs(cpu_millis=1 << 30, memory=1 << 50, gpus=99))
    assert has_room(HOST, used, NOTHING)
