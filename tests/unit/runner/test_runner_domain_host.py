"""Decisions about the host: whose fault a failure is, what goes, what is whose."""

from dataclasses import replace

import pytest

from easyq_runner.domain.host import Disk, full_disk, troubled
from easyq_runner.domain.image_cache import CachedImage, is_foreign, surplus, with_pulled, with_use
from easyq_runner.domain.images import familiar_reference
from easyq_runner.domain.labels import AGENT, FARM, TASK, labels_of
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.domain.orphans import due, seen_since, strays
from easyq_runner.domain.outcome import Ending, Snapshot, Status, choose_ending, classify
from easyq_runner.domain.pulling import LocalImage, when_busy
from easyq_runner.domain.records import ExecutionKey, FailureReason, OutcomeKind, Terms
from easyq_runner.domain.sizes import parse_size, size_words


# ------------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("64k", 65536), ("1.5g", 3 << 29), ("2T", 2 << 40), (" 10 mb ", 10 << 20), ("7b", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "-1", "1x", "1e3", "ten"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="512m"):
        parse_size(text)


def test_sizes_for_people() -> None:
    assert [size_words(size) for size in (12, 2048, 12 << 20, 3 << 30)] == ["12 B", "2.0 KiB", "12.0 MiB", "3.0 GiB"]


# -------------------------------------------------------------------------------------------------------------- host
def test_full_disk_is_named() -> None:
    disks = [Disk(folder="/data", free=100), Disk(folder="/var/lib/docker", free=9)]
    assert full_disk(disks, least=9) == ""
    assert "/var/lib/docker" in full_disk(disks, least=10)
    assert full_disk([], least=10) == ""


def test_pauses_double_while_tries_fail() -> None:
    first = troubled(None, "a", now=100, first=5, longest=15)
    assert (first.cause, first.until, first.pause) == ("a", 105, 5)
    # Others that were under way when it failed are no tries.
    assert troubled(first, "b", now=104, first=5, longest=15) == first
    second = troubled(first, "b", now=106, first=5, longest=15)
    assert (second.cause, second.until, second.pause) == ("b", 116, 10)
    third = troubled(second, "c", now=117, first=5, longest=15)
    assert third.pause == 15
    # A host that was well for a while begins anew.
    assert troubled(third, "d", now=third.until + 15, first=5, longest=15).pause == 5


def test_backoff_of_monitoring() -> None:
    backoff = Backoff(least=0.5, most=3)
    assert [backoff.pause(failures) for failures in (1, 2, 3, 4, 1000)] == [0.5, 1, 2, 3, 3]


# ------------------------------------------------------------------------------------------------------------- drain
def test_drain_ends_what_nothing_else_ends() -> None:
    assert choose_ending(lost=False, stop=False, overdue=False, drain=True) is Ending.DRAIN
    assert choose_ending(lost=False, stop=False, overdue=True, drain=True) is Ending.TIMEOUT
    assert choose_ending(lost=False, stop=True, overdue=False, drain=True) is Ending.STOP


def test_what_a_drain_ended_is_lost_whatever_its_code() -> None:
    ended = Snapshot(container_id="c", labels={}, status=Status.EXITED, started_at=1, finished_at=2)
    finish = classify(ended, trusted=True, ending=Ending.DRAIN, limit=None)
    assert (finish.outcome, finish.exit_code) == (OutcomeKind.LOST, None)
    assert finish.failure is not None
    assert finish.failure.reason is FailureReason.DRAINED


# ---------------------------------------------------------------------------------------------------------- registry
@pytest.mark.parametrize(("said", "kept"), [(None, 60), (7, 7), (0, 1), (1e9, 6 * 3600)])
def test_a_busy_registry_is_left_alone_for_a_bounded_time(said: float | None, kept: float) -> None:
    word = when_busy("a:1", "429", None, fallback=False, retry_after=said)
    assert word is not None
    assert (word.failure.reason, word.retry_after) == (FailureReason.REGISTRY_BUSY, kept)


def test_a_busy_registry_and_an_image_that_is_there() -> None:
    local = LocalImage(image_id="i", known_to_registry=True)
    assert when_busy("a:1", "429", local, fallback=True, retry_after=1) is None
    assert when_busy("a:1", "429", local, fallback=False, retry_after=1) is not None


# ------------------------------------------------------------------------------------------------------------ images
def image(name: str, *, used: int, size: int = 10) -> CachedImage:
    return CachedImage(image_id=name, references=frozenset({f"{name}:1"}), last_used=used, size=size)


CACHE = {one.image_id: one for one in (image("a", used=3), image("b", used=1), image("c", used=2, size=30))}


@pytest.mark.parametrize(
    ("limit", "in_use", "gone"),
    [
        (50, set(), []),
        (49, set(), ["b"]),
        (40, set(), ["b"]),
        (39, set(), ["b", "c"]),
        (39, {"b"}, ["c"]),
        (5, {"c"}, ["b", "a"]),
        (0, set(), ["b", "c", "a"]),
    ],
)
def test_least_recently_used_goes_first(limit: int, in_use: set[str], gone: list[str]) -> None:
    assert [one.image_id for one in surplus(CACHE, limit=limit, in_use=in_use)] == gone


def test_an_image_that_was_there_before_is_somebody_elses() -> None:
    assert with_pulled({}, image_id="x", reference="x:1", size=1, before={"x"}, now=5) == {}
    pulled = with_pulled({}, image_id="x", reference="x:1", size=7, before={"y"}, now=5)
    assert pulled == {
        "x": CachedImage(image_id="x", references=frozenset({"x:1"}), last_used=5, size=7),
    }
    # Pulled again it stays ours, and gets the second name.
    again = with_pulled(pulled, image_id="x", reference="x:2", size=7, before={"x"}, now=6)
    assert again["x"].references == {"x:1", "x:2"}


def test_a_name_that_moves_takes_nothing_with_it() -> None:
    first = with_pulled({}, image_id="x", reference="a:latest", size=7, before=(), now=5)
    second = with_pulled(first, image_id="y", reference="a:latest", size=8, before={"x"}, now=6)
    assert not second["x"].references
    assert second["y"].references == {"a:latest"}


def test_use_is_noted_of_what_is_used() -> None:
    used = with_use(CACHE, "b:1", now=9)
    assert (used["b"].last_used, used["a"].last_used) == (9, 3)


def test_other_names_make_an_image_foreign() -> None:
    assert is_foreign(CACHE["a"], ["a:1", "mine:1"])
    assert not is_foreign(CACHE["a"], ["a:1"])
    assert not is_foreign(CACHE["a"], [])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("alpine", "alpine:latest"),
        ("docker.io/library/alpine:3", "alpine:3"),
        ("reg:5000/a", "reg:5000/a:latest"),
        ("a@sha256:1", "a@sha256:1"),
    ],
)
def test_names_as_docker_shows_them(given: str, shown: str) -> None:
    assert familiar_reference(given) == shown


# ----------------------------------------------------------------------------------------------------------- orphans
TERMS = Terms(key=ExecutionKey("e", 2), task_id="t", job_id="j", attempt=1, fence=1, log_limit=1)


def found(container: str, *, farm: str = "f", agent: str = "old", status: Status = Status.RUNNING) -> Snapshot:
    labels = labels_of(TERMS, farm=farm, agent_id=agent, users={})
    return Snapshot(container_id=container, labels=labels, status=status)


def test_only_whole_labels_of_our_farm_and_another_agent_are_looked_at() -> None:
    listing = [
        found("theirs"),
        found("mine", agent="me"),
        found("other-farm", farm="g"),
        Snapshot(container_id="no-labels", labels={}, status=Status.RUNNING),
        replace(found("no-agent"), labels={FARM: "f"}),
        replace(found("odd"), labels={FARM: "f", AGENT: "old", TASK: "t"}),
        found("ended", status=Status.EXITED),
    ]
    seen = strays(listing, farm="f", agent_id="me")
    assert [(one.container_id, one.agent_id, one.alive) for one in seen] == [
        ("theirs", "old", True),
        ("ended", "old", False),
    ]
    assert seen[0].terms == TERMS


def test_time_counts_from_the_first_look_and_never_less_than_the_farm_waits() -> None:
    seen = strays([found("a"), found("b")], farm="f", agent_id="me")
    assert seen_since({"a": 1.0, "gone": 1.0}, seen, now=5.0) == {"a": 1.0, "b": 5.0}
    assert not due(0, now=9, after=10, lost_after=5)
    assert due(0, now=10, after=10, lost_after=5)
    assert not due(0, now=10, after=1, lost_after=15)
