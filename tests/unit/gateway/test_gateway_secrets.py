"""Secrets of whole specs: what is shown of them, and what comes back of that."""

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway import convert_secrets
from easyq_gateway.domain.redaction import MARKER, Redactor

REDACTOR = Redactor()
STORED = {
    "image": "a",
    "command": ["get", "x://u:p@h"],
    "entrypoint": ["https://h/?token=t"],
    "envs": {"TOKEN": "t", "A": "b"},
    "metadata": {
        "apiKey": "k",
        "password": {"now": "n", "since": 3, "old": ["o", None, True, "", []]},
        "links": ["x://u:p@h", "plain"],
        "list": [{"name": "a", "token": "1"}, {"name": "b", "token": "2"}],
        "same": ["x://u:1@h", "x://u:2@h"],
    },
    "webhooks": {"fails": [{"url": "https://h/", "headers": {"A": "b"}, "secret": "s"}]},
}


def spec(**more: object) -> JobSpec:
    made: JobSpec = json_format.ParseDict({**STORED, **more}, JobSpec())
    return made


def shown(of: JobSpec | None = None) -> JobSpec:
    made = JobSpec()
    made.CopyFrom(of or spec())
    convert_secrets.redact_spec(made, REDACTOR)
    return made


def metadata(of: JobSpec) -> object:
    return json_format.MessageToDict(of.metadata)


def test_what_is_shown() -> None:
    made = shown()
    assert list(made.command) == ["get", "x://u:[redacted]@h"]
    assert list(made.entrypoint) == ["https://h/?token=[redacted]"]
    assert dict(made.envs) == {"TOKEN": MARKER, "A": "b"}
    assert metadata(made) == {
        "apiKey": MARKER,
        "password": {"now": MARKER, "since": MARKER, "old": [MARKER, None, MARKER, "", []]},
        "links": ["x://u:[redacted]@h", "plain"],
        "list": [{"name": "a", "token": MARKER}, {"name": "b", "token": MARKER}],
        "same": ["x://u:[redacted]@h", "x://u:[redacted]@h"],
    }
    assert made.webhooks.fails[0].secret == MARKER
    assert shown(made) == made


def test_what_was_shown_brings_back_what_was_stored() -> None:
    sent = shown()
    assert convert_secrets.are_marked(sent, REDACTOR)
    convert_secrets.put_back(sent, spec(), REDACTOR)
    assert sent == spec()
    assert not convert_secrets.are_marked(sent, REDACTOR)
    assert list(convert_secrets.problems(sent, REDACTOR)) == []


def test_what_was_edited_keeps_the_rest() -> None:
    sent = shown()
    sent.metadata.fields["apiKey"].string_value = "new"
    sent.metadata.fields["list"].list_value.values[1].struct_value["name"] = "c"
    sent.metadata.fields["more"].string_value = "added"
    convert_secrets.put_back(sent, spec(), REDACTOR)
    now = json_format.MessageToDict(sent.metadata)
    assert (now["apiKey"], now["more"]) == ("new", "added")
    assert now["list"] == [{"name": "a", "token": "1"}, {"name": "c", "token": "2"}]
    assert now["password"] == STORED["metadata"]["password"]  # type: ignore[index]


def test_marks_that_stand_for_nothing_are_refused() -> None:
    sent = shown()
    # Another host, a key that is new, one item less.
    sent.command[1] = "x://u:[redacted]@other"
    sent.metadata.fields["my-token"].string_value = MARKER
    del sent.metadata.fields["list"].list_value.values[0]
    del sent.metadata.fields["same"].list_value.values[0]
    convert_secrets.put_back(sent, spec(), REDACTOR)
    told = {problem.path for problem in convert_secrets.problems(sent, REDACTOR)}
    assert told == {"command[1]", 'metadata["my-token"]', "metadata.same[0]"}
    # What looked like no other was found wherever it is now.
    assert metadata(sent)["list"] == [{"name": "b", "token": "2"}]  # type: ignore[index]


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        ({"team": "a", "link": "https://h/"}, []),
        ({"api-token": "x"}, ['labels["api-token"]']),
        ({"api-token": MARKER}, ['labels["api-token"]']),
        ({"api-token": ""}, []),
        ({"link": "https://u:p@h/"}, ['labels["link"]']),
        ({"link": "https://u:[redacted]@h/"}, ['labels["link"]']),
    ],
)
def test_labels_hold_no_secrets(labels: dict[str, str], wrong: list[str]) -> None:
    assert [problem.path for problem in convert_secrets.problems(spec(labels=labels), REDACTOR)] == wrong


def test_old_labels_are_not_shown() -> None:
    assert dict(shown(spec(labels={"key": "x", "a": "b"})).labels) == {"key": MARKER, "a": "b"}


def test_errors_and_executions() -> None:
    error = Failure(message="exec: t-value: no such file, nor x://u:p@h")
    ran = Execution(envs={"TOKEN": "t-value"}, command=["x://u:p@h"], error=error)
    job = Job(spec=JobSpec(envs={"TOKEN": "t-value"}), error=error, executions=[ran])
    convert_secrets.redact_job(job, REDACTOR)
    told = "exec: [redacted]: no such file, nor x://u:[redacted]@h"
    assert (job.error.message, job.executions[0].error.message) == (told, told)
    assert list(job.executions[0].command) == ["x://u:[redacted]@h"]
    assert job.executions[0].envs["TOKEN"] == MARKER


_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["", "a", "x://u:p@h", "x://u:q@h"]))
_TREES = st.dictionaries(
    st.sampled_from(["a", "token", "myKey"]),
    st.recursive(
        _LEAVES,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["b", "key"]), below, max_size=2),
        max_leaves=8,
    ),
)


@given(_TREES)
def test_any_free_data_comes_back(tree: dict[str, object]) -> None:
    stored = spec(metadata=tree)
    sent = shown(stored)
    convert_secrets.put_back(sent, stored, REDACTOR)
    assert sent == stored
