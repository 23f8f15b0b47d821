"""Bodies of REST: what is taken, and every error of one body at once."""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from easyq.v1.job_service_pb2 import BatchCreateJobsRequest
from easyq.v1.log_service_pb2 import LogChunk
from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway.codec.decode import decode, filler
from easyq_gateway.codec.json_text import Malformed, parse_json
from easyq_gateway.domain.problems import Problems


def read(body: str) -> tuple[JobSpec, dict[str, str]]:
    """The spec that a body gives, and what is wrong with it."""
    spec, problems = JobSpec(), Problems()
    decode(parse_json(body.encode()), spec, "spec", problems)
    return spec, {problem.path: problem.message for problem in problems}


def good(body: str) -> Any:
    spec, problems = read(body)
    assert problems == {}
    return MessageToDict(spec)


def bad(body: str) -> dict[str, str]:
    _, problems = read(body)
    assert problems
    return problems


def test_the_body_of_the_readme() -> None:
    body = (
        '{"image": "my.docker.repo.com/my-send-email-image:latest",'
        ' "command": "python /app/sendmail.py", "envs": {"SMTP_SERVER": "my-smtp-server"}}'
    )
    assert good(body) == {
        "image": "my.docker.repo.com/my-send-email-image:latest",
        "command": ["python", "/app/sendmail.py"],
        "envs": {"SMTP_SERVER": "my-smtp-server"},
    }


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ('{"command": "sh -c \\"echo $A | wc\\""}', "command", ["sh", "-c", "echo $A | wc"]),
        ('{"command": ["a b", ""]}', "command", ["a b", ""]),
        ('{"entrypoint": "a b"}', "entrypoint", ["a", "b"]),
        ('{"envs": {"A": 1.50, "B": true, "C": false, "D": -0, "E": 1E5, "F": ""}}', "envs",
         {"A": "1.50", "B": "true", "C": "false", "D": "-0", "E": "1E5", "F": ""}),
        ('{"envs": {"A": 123456789012345678901234567890}}', "envs", {"A": "123456789012345678901234567890"}),
        ('{"labels": {"a": "1", "b": null}}', "labels", {"a": "1"}),
        ('{"startIn": "2h30m50s"}', "startIn", "9050s"),
        ('{"startIn": "9050s"}', "startIn", "9050s"),
        ('{"startIn": 9050}', "startIn", "9050s"),
        ('{"startIn": 0.25}', "startIn", "0.250s"),
        ('{"startAt": 1900000000}', "startAt", "2030-03-17T17:46:40Z"),
        ('{"startAt": 1900000000.5}', "startAt", "2030-03-17T17:46:40.500Z"),
        ('{"startAt": 19e8}', "startAt", "2030-03-17T17:46:40Z"),
        ('{"startAt": 0}', "startAt", "1970-01-01T00:00:00Z"),
        ('{"startAt": -0.5}', "startAt", "1969-12-31T23:59:59.500Z"),
        ('{"startAt": "2030-03-17T17:46:40Z"}', "startAt", "2030-03-17T17:46:40Z"),
        ('{"startAt": "2030-03-17t19:46:40.123456789+02:00"}', "startAt", "2030-03-17T17:46:40.123456789Z"),
        ('{"startAt": "2030-03-17T12:16:40-05:30"}', "startAt", "2030-03-17T17:46:40Z"),
        ('{"pull": "always"}', "pull", "ALWAYS"),
        ('{"onLost": "Wait"}', "onLost", "WAIT"),
        ('{"retries": 3}', "retries", 3),
        ('{"retries": 3.0}', "retries", 3),
        ('{"retries": 1e2}', "retries", 100),
        ('{"priority": -100}', "priority", -100),
        ('{"init": false}', "init", False),
        ('{"shmSize": "64m"}', "shmSize", "67108864"),
        ('{"logLimit": 5}', "logLimit", "5"),
        ('{"backoff": {"min": 1, "factor": 1.5}}', "backoff", {"min": "1s", "factor": 1.5}),
        ('{"resources": {"memory": "512m", "cpus": 0.5}}', "resources", {"memory": "536870912", "cpus": 0.5}),
        ('{"retryOn": ["75", "oom"]}', "retryOn", ["75", "oom"]),
        ('{"mounts": [{"source": "/a", "target": "/b", "type": "tmpfs"}, {}]}', "mounts",
         [{"source": "/a", "target": "/b", "type": "TMPFS"}, {}]),
        ('{"metadata": {"a": [1, 2.5, null, {"b": false, "": "é"}]}}', "metadata",
         {"a": [1.0, 2.5, None, {"b": False, "": "é"}]}),
        ('{"metadata": {"a": 9007199254740992, "b": 1e300, "c": [], "d": {}}}', "metadata",
         {"a": 9007199254740992.0, "b": 1e300, "c": [], "d": {}}),
    ],
)  # fmt: skip
def test_what_is_taken(body: str, field: str, value: Any) -> None:
    assert good(body) == {field: value}


def test_null_means_absent() -> None:
    names = [field.json_name for field in JobSpec.DESCRIPTOR.fields]
    assert good("{{{}}}".format(", ".join(f'"{name}": null' for name in names))) == {}


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ('{"image": 5}', "spec.image", "must be a string, not a number"),
        ('{"image": ["a"]}', "spec.image", "must be a string, not a list"),
        ('{"image": {}}', "spec.image", "must be a string, not an object"),
        ('{"image": true}', "spec.image", "must be a string, not a boolean"),
        ('{"image": "a\\u0000b"}', "spec.image", "NUL"),
        ('{"image": "\\ud800"}', "spec.image", "surrogate"),
        ('{"image": "a", "image": "b"}', "spec.image", "more than once"),
        ('{"imagee": "a"}', "spec.imagee", "did you mean `image`?"),
        ('{"start_at": 5}', "spec.start_at", "did you mean `startAt`?"),
        ('{"a b": 5}', 'spec["a b"]', "is not a field of JobSpec"),
        ('{"": 5}', 'spec[""]', "is not a field of JobSpec"),
        ('{"dependsOn": []}', "spec.dependsOn", "is not a field of JobSpec"),
        ('{"command": 5}', "spec.command", "a string or a list of strings"),
        ('{"command": {}}', "spec.command", "a string or a list of strings"),
        ('{"command": ["a", 5]}', "spec.command[1]", "must be a string"),
        ('{"command": ["a", null]}', "spec.command[1]", "must be a string, not null"),
        ('{"command": "a \'b"}', "spec.command", "not closed"),
        ('{"command": "a \\u0000"}', "spec.command", "NUL"),
        ('{"envs": []}', "spec.envs", "must be an object"),
        ('{"envs": {"A": null}}', 'spec.envs["A"]', "not null"),
        ('{"envs": {"A": []}}', 'spec.envs["A"]', "not a list"),
        ('{"envs": {"A": NaN}}', 'spec.envs["A"]', "not JSON"),
        ('{"envs": {"A": "1", "A": "2"}}', 'spec.envs["A"]', "more than once"),
        ('{"envs": {"\\ud800": "1"}}', 'spec.envs["\ufffd"]', "surrogate"),
        ('{"envs": {"A": "\\udfff"}}', 'spec.envs["A"]', "surrogate"),
        ('{"labels": {"a": 5}}', 'spec.labels["a"]', "must be a string"),
        ('{"startIn": true}', "spec.startIn", "must be a duration"),
        ('{"startIn": "tomorrow"}', "spec.startIn", "is not a duration"),
        ('{"startIn": -5}', "spec.startIn", "negative"),
        ('{"startIn": 1e999}', "spec.startIn", "finite"),
        ('{"startIn": Infinity}', "spec.startIn", "finite"),
        ('{"startAt": "2030-03-17T17:46:40"}', "spec.startAt", "needs an offset"),
        ('{"startAt": "2030-02-30T17:46:40Z"}', "spec.startAt", "does not exist"),
        ('{"startAt": "2030-03-17T24:00:00Z"}', "spec.startAt", "does not exist"),
        ('{"startAt": "2030-03-17T17:46:40+24:00"}', "spec.startAt", "offset"),
        ('{"startAt": "0001-01-01T00:00:00+01:00"}', "spec.startAt", "years 1 to 9999"),
        ('{"startAt": "17.03.2030"}', "spec.startAt", "RFC 3339"),
        ('{"startAt": 1e18}', "spec.startAt", "milliseconds?"),
        ('{"startAt": 1e99}', "spec.startAt", "milliseconds?"),
        ('{"startAt": 1e9999999999999999999}', "spec.startAt", "reasonable size"),
        ('{"startAt": NaN}', "spec.startAt", "not JSON"),
        ('{"startAt": []}', "spec.startAt", "not a list"),
        ('{"retries": "3"}', "spec.retries", "must be a whole number, not a string"),
        ('{"retries": 3.5}', "spec.retries", "must be a whole number"),
        ('{"retries": -1}', "spec.retries", "must be from 0 to 1000"),
        ('{"retries": 1e40}', "spec.retries", "too large"),
        ('{"retries": NaN}', "spec.retries", "not JSON"),
        ('{"priority": 99999999999}', "spec.priority", "must be from -100 to 100"),
        ('{"retries": true}', "spec.retries", "must be a whole number, not a boolean"),
        ('{"init": 1}', "spec.init", "true or false"),
        ('{"init": "true"}', "spec.init", "true or false"),
        ('{"pull": 1}', "spec.pull", "ALWAYS, MISSING, NEVER"),
        ('{"pull": "sometimes"}', "spec.pull", "ALWAYS, MISSING, NEVER"),
        ('{"pull": "UNSPECIFIED"}', "spec.pull", "ALWAYS, MISSING, NEVER"),
        ('{"backoff": 5}', "spec.backoff", "must be an object"),
        ('{"backoff": {"factor": "2"}}', "spec.backoff.factor", "must be a number"),
        ('{"backoff": {"factor": -Infinity}}', "spec.backoff.factor", "not JSON"),
        ('{"backoff": {"factor": 1e999}}', "spec.backoff.factor", "too large"),
        ('{"resources": {"memory": "lots"}}', "spec.resources.memory", "size"),
        ('{"resources": {"memory": []}}', "spec.resources.memory", "size"),
        ('{"resources": {"memory": "9999999999999g"}}', "spec.resources.memory", "too large"),
        ('{"resources": {"memory": 1e30}}', "spec.resources.memory", "from"),
        ('{"retryOn": "75"}', "spec.retryOn", "must be a list"),
        ('{"retryOn": [75]}', "spec.retryOn[0]", "must be a string"),
        ('{"mounts": {}}', "spec.mounts", "must be a list"),
        ('{"mounts": [5]}', "spec.mounts[0]", "must be an object"),
        ('{"mounts": [{"sauce": 5}]}', "spec.mounts[0].sauce", "did you mean `source`?"),
        ('{"metadata": []}', "spec.metadata", "must be an object"),
        ('{"metadata": {"a": 9007199254740993}}', 'spec.metadata["a"]', "2^53"),
        ('{"metadata": {"a": [-9007199254740993]}}', 'spec.metadata["a"][0]', "2^53"),
        ('{"metadata": {"a": NaN}}', 'spec.metadata["a"]', "not JSON"),
        ('{"metadata": {"a": 1e999}}', 'spec.metadata["a"]', "too large"),
        ('{"metadata": {"a": "\\u0000"}}', 'spec.metadata["a"]', "NUL"),
        ('{"metadata": {"\\ud800": 1}}', 'spec.metadata["\ufffd"]', "surrogate"),
        ('{"metadata": {"a": 1, "a": 2}}', 'spec.metadata["a"]', "more than once"),
        ('{"startIn": 5, "startAt": 6}', "spec.startIn", "not startAt and startIn"),
        ('{"startIn": 5, "startAt": 6, "cron": "* * * * *"}', "spec.cron", "not startAt, startIn and cron"),
    ],
)  # fmt: skip
def test_what_is_refused(body: str, path: str, words: str) -> None:
    problems = bad(body)
    assert list(problems) == [path]
    assert words in problems[path]


def test_all_errors_at_once() -> None:
    problems = bad(
        '{"imagee": 1, "image": 2, "command": [3, 4], "envs": {"A": null, "B": 1}, "startIn": "x",'
        ' "mounts": [{"type": 1}], "metadata": {"a": NaN}, "retryOn": [5, "75"]}'
    )
    assert set(problems) == {
        "spec.imagee",
        "spec.image",
        "spec.command[0]",
        "spec.command[1]",
        'spec.envs["A"]',
        "spec.startIn",
        "spec.mounts[0].type",
        'spec.metadata["a"]',
        "spec.retryOn[0]",
    }


def test_a_wrong_item_keeps_its_place() -> None:
    spec, _ = read('{"retryOn": [5, "75"], "command": [1, "b"]}')
    assert list(spec.retry_on) == ["", "75"]
    assert list(spec.command) == ["", "b"]


@pytest.mark.parametrize("levels", [32, 33, 500])
def test_depth_of_free_data(levels: int) -> None:
    body = '{"metadata": ' + '{"a": ' * levels + "1" + "}" * (levels + 1)
    problems = read(body)[1]
    assert (list(problems.values()) == []) is (levels <= 32)
    assert all("deeper than 32" in message for message in problems.values())


def test_lists_are_levels_as_well() -> None:
    assert read('{"metadata": {"a": ' + "[" * 31 + "]" * 31 + "}}")[1] == {}
    assert list(read('{"metadata": {"a": ' + "[" * 32 + "]" * 32 + "}}")[1].values()) == [
        "is nested deeper than 32 levels"
    ]


def test_free_data_of_full_depth_survives_the_way_through_every_service() -> None:
    """The parsers of protobuf end at 100 levels, of which an object takes three."""
    spec, _ = read('{"metadata": ' + '{"a": ' * 32 + "1" + "}" * 33)
    batch = BatchCreateJobsRequest()
    batch.jobs.add().spec.CopyFrom(spec)
    assert BatchCreateJobsRequest.FromString(batch.SerializeToString()) == batch


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"{}x", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": "\n"}', "not JSON"),
        (b'{"a": \xff}', "not UTF-8 at byte 6"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 200_000, "deeper than 32"),
        (b'{"a":' * 200_000, "deeper than 32"),
    ],
)
def test_what_is_no_json(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parse_json(body)


def test_nothing_of_a_body_that_is_no_json_is_echoed() -> None:
    with pytest.raises(Malformed) as error:
        parse_json(b'{"password": "hunter2" "x"}')
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("tree", [None, True, "x", [], 5])
def test_a_message_is_an_object(tree: object) -> None:
    problems = Problems()
    decode(tree, JobSpec(), "spec", problems)
    assert [problem.path for problem in problems] == ["spec"]


def test_what_rest_has_no_form_for_is_found_at_the_start() -> None:
    with pytest.raises(TypeError, match=r"LogChunk\.data"):
        filler(LogChunk.DESCRIPTOR)
