"""Tables, words and documents of the command line."""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor import FieldDescriptor

from easyq.cli import enums, exits, words
from easyq.cli.document import to_json, to_tree, to_yaml
from easyq.cli.job_views import job_view, jobs_view, remark
from easyq.cli.plain import clip, plain, sentence_of, width
from easyq.cli.status_views import status_view
from easyq.cli.table import Cell, Column, Screen, pairs, render, wrap
from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2, spec_pb2, task_service_pb2
from easyq.v1.job_pb2 import Failure, Job
from easyq_gateway.codec import encode

NOW = 1_700_000_000.0
EVIL = "\x1b[31mred\x1b]0;title\x07\r\n\u202eback\x9b2J\x00\u200b"


# ---------------------------------------------------------------------------------------------------- what is printed


def test_nothing_that_moves_a_cursor_is_printed() -> None:
    assert plain(EVIL) == "\\x1b[31mred\\x1b]0;title\\x07\\r\\n\\u202eback\\x9b2J\\x00\\u200b"
    assert plain("日本語 é 🎉") == "日本語 é 🎉"
    assert sentence_of("a\n b\tc \x1b") == "a b c \\x1b"


@pytest.mark.parametrize("make", [to_json, lambda tree: to_json(tree, compact=True), to_yaml])
def test_documents_are_safe_and_mean_what_they_did(make: Any) -> None:
    tree = {"name": EVIL + "\udcff日本", EVIL: [EVIL, "NO", "1e3", None, True]}
    text = make(tree)
    assert plain(text.replace("\n", "")) == text.replace("\n", "")
    if make is not to_yaml:
        assert json.loads(text) == tree


def test_yaml_is_read_as_it_was() -> None:
    tree = {"a": ["NO", "12", "", "x: y", "日本語"], "b": {"c": None, "d": 1.5}}
    assert yaml.safe_load(to_yaml(tree)) == tree


def test_widths() -> None:
    assert (width("abc"), width("日本"), width("e\u0301")) == (3, 4, 1)
    assert clip("abcdef", 4) == "abc…"
    assert clip("日本語", 4) == "日…"
    assert clip("abc", 3) == "abc"
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]


COLUMNS = [Column("ID"), Column("NAME", cut=True), Column("N", right=True, drop=1), Column("WHY", cut=True, drop=2)]


def test_a_table_for_files_has_every_column_and_every_letter() -> None:
    rows = [["a1", "x" * 60, "1", ""], ["b22", "日本", "22", "w" * 90]]
    assert render(COLUMNS, rows, Screen()) == [
        "ID   NAME" + " " * 59 + "N  WHY",
        f"a1   {'x' * 60}   1",
        f"b22  日本{' ' * 56}  22  {'w' * 90}",
    ]


@pytest.mark.parametrize("columns", range(24, 120))
def test_a_table_fits_its_terminal(columns: int) -> None:
    rows = [["a1", "x" * 60, "1", "y" * 70], ["b22", "日本" * 20, "22", "w"]]
    lines = render(COLUMNS, rows, Screen(columns=columns))
    assert max(map(width, lines)) <= columns
    assert [line.split()[0] for line in lines] == ["ID", "a1", "b22"]


def test_columns_go_where_they_are_empty_or_there_is_no_room() -> None:
    assert render(COLUMNS, [["a", "b", "-", ""]], Screen(columns=80))[0].split() == ["ID", "NAME"]
    rows = [["a", "n" * 30, "1", "w" * 30]]
    assert render(COLUMNS, rows, Screen(columns=80))[0].split() == ["ID", "NAME", "N", "WHY"]
    assert render(COLUMNS, rows, Screen(columns=24))[0].split() == ["ID", "NAME", "N"]


def test_colours_only_where_there_are_some() -> None:
    assert (
        render([Column("A"), Column("B")], [[Cell("x", "bad"), "y"]], Screen(colours=True))[1] == "\x1b[31mx\x1b[0m  y"
    )
    assert "\x1b" not in "".join(render([Column("A")], [[Cell("x\x1b", "bad")]], Screen()))
    assert pairs([("A", Cell("x\x1b", "good"))], Screen(colours=True)) == ["A  \x1b[32mx\\x1b\x1b[0m"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "<1ms"),
        (0, "<1ms"),
        (0.25, "250ms"),
        (9, "9s"),
        (65, "1m5s"),
        (600, "10m"),
        (7260, "2h1m"),
        (86400 * 12 + 7000, "12d"),
    ],
)
def test_spans(seconds: float, shown: str) -> None:
    assert words.span(seconds) == shown


def test_sizes() -> None:
    assert [words.size(count) for count in (0, 1023, 1536, 3 * 1024**3, 15 * 1024**2)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3 GiB",
        "15 MiB",
    ]


# ------------------------------------------------------------------------------------------------- documents are REST's


def filled(descriptor: Any, random_: random.Random, depth: int = 0) -> Any:
    """A message with whatever its fields may hold."""
    from google.protobuf.message_factory import GetMessageClass

    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if random_.random() < 0.2 or depth > 4:
            continue
        one: Callable[[], Any] = partial(value, field, random_, depth)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            if field.message_type.full_name.startswith("google."):
                entries["k"].string_value = "v"
            else:
                entries.update({f"k{index}": "v\n" for index in range(random_.randrange(3))})
        elif field.is_repeated:
            getattr(message, field.name).extend(one() for _ in range(random_.randrange(3)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(one())
        else:
            setattr(message, field.name, one())
    return message


def value(field: Any, random_: random.Random, depth: int) -> Any:
    if field.message_type is not None:
        return filled(field.message_type, random_, depth + 1)
    if field.enum_type is not None:
        return random_.choice(list(field.enum_type.values_by_number))
    if field.type == FieldDescriptor.TYPE_STRING:
        return random_.choice(["", "a", EVIL.replace("\udcff", "")])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return random_.random() < 0.5
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return random_.choice([0.0, -0.0, 1.5, 3.0, float("inf")])
    return random_.randrange(100) if field.name != "nanos" else random_.randrange(10**9)


@pytest.mark.parametrize(
    "descriptor",
    [
        job_pb2.Job.DESCRIPTOR,
        job_pb2.Task.DESCRIPTOR,
        spec_pb2.JobSpec.DESCRIPTOR,
        farm_service_pb2.Status.DESCRIPTOR,
        job_service_pb2.GetScheduleResponse.DESCRIPTOR,
        job_service_pb2.ExplainJobResponse.DESCRIPTOR,
        job_service_pb2.CreateJobResponse.DESCRIPTOR,
        task_service_pb2.ExplainTaskResponse.DESCRIPTOR,
    ],
    ids=lambda one: one.name,
)
def test_documents_are_what_rest_gives(descriptor: Any) -> None:
    for seed in range(40):
        message = filled(descriptor, random.Random(seed))
        assert to_tree(message) == encode.to_tree(message)
        assert list(to_tree(message)) == list(encode.to_tree(message))


def test_names_of_options_are_those_of_the_schema() -> None:
    assert list(enums.STATES) == [name for name, number in Job.State.items() if number]
    assert list(enums.REASONS) == [name for name, number in Failure.Reason.items() if number]
    assert list(enums.REPORTS) == [name for name, number in spec_pb2.ReportFailure.Mode.items() if number]


# --------------------------------------------------------------------------------------------------------------- views


def test_a_state_that_this_version_does_not_know_is_shown_as_it_is() -> None:
    job = Job(job_id="j", state=99)  # type: ignore[arg-type]
    view = jobs_view([job], NOW, wide=True, nothing="")
    assert "99" in view.lines(Screen())[1]
    assert "99" in "\n".join(job_view(job, NOW).lines(Screen()))


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_an_evil_job_does_a_terminal_no_harm(columns: int) -> None:
    job = Job(job_id=EVIL, task_id=EVIL, state=Job.FAILED, error=Failure(message=EVIL * 30))
    job.spec.image, job.waiting.message = EVIL, EVIL
    job.spec.command.extend([EVIL, "x" * 100_000])
    job.spec.envs[EVIL], job.spec.labels[EVIL] = EVIL, EVIL
    execution = job.executions.add(execution_id=EVIL, host=EVIL)
    execution.error.message = EVIL
    screen = Screen(columns=columns)
    for lines in (job_view(job, NOW).lines(screen), jobs_view([job], NOW, wide=True, nothing="").lines(screen)):
        assert all(plain(line) == line for line in lines)


def test_exit_codes() -> None:
    assert exits.of_error("NOT_FOUND") == 4
    assert exits.of_error("UNAVAILABLE") == 3
    assert exits.of_error("ABORTED") == 1
    assert [exits.worst(codes) for codes in ([0, 0], [0, 4], [4, 3], [])] == [0, 4, 1, 0]


@pytest.mark.parametrize(
    ("state", "told"), [("RUNNING", ""), ("QUEUED", ""), ("RETRYING", "broke"), ("FAILED", "broke")]
)
def test_what_the_last_attempt_failed_of_is_said_until_the_next_one_is_queued(state: str, told: str) -> None:
    assert remark(Job(state=Job.State.Value(state), error=Failure(message="broke"))) == told


def test_what_can_not_be_told_of_the_farm_is_said() -> None:
    found = farm_service_pb2.Status(version="1", accepting=True)
    for field in ("pools.ready", "breakers"):
        found.unknown.add(field=field, why="Redis can't be asked")
    found.unknown.add(field="jobs", why="the store does not answer")
    text = status_view(found).lines(Screen())
    assert text[1:] == [
        "  What can't be told now: pools.ready, breakers (Redis can't be asked).",
        "  What can't be told now: jobs (the store does not answer).",
    ]
