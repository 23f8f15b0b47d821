"""Files that the command line reads: YAML and JSON with lines, specs, manifests, contexts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from easyq.cli import contexts
from easyq.cli.document import to_tree
from easyq.cli.manifest import LABEL, differences, read
from easyq.cli.reading_specs import Reading, read_spec
from easyq.cli.tree import TreeError, parse, parse_lines
from easyq.v1.spec_pb2 import JobSpec, Overlap


def spec_of(text: str) -> tuple[JobSpec, Reading]:
    reading = Reading()
    [node] = parse(text.encode())
    return read_spec(node, reading), reading


# ---------------------------------------------------------------------------------------------------------------- tree


def test_words_are_read_as_yaml_1_2_has_them() -> None:
    [node] = parse(b"{a: no, b: on, c: 1_0, d: 2030-01-31, e: true, f: ~, g: 0o7, h: 1.5, i: '1', j: !!str 5}")
    assert node.value() == {
        "a": "no",
        "b": "on",
        "c": "1_0",
        "d": "2030-01-31",
        "e": True,
        "f": None,
        "g": "0o7",
        "h": 1.5,
        "i": "1",
        "j": 5,
    }


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"a: 1\nb: [1,\nc: 2\n", None, "is not YAML"),
        (b"a: 1\n\tb: 2\n", 2, "is not YAML"),
        (b"a: 1\nb: 2\na: 3\n", 3, "has `a` more than once"),
        (b'{"a": 1, "a": 2}', 1, "has `a` more than once"),
        (b"a: 1\nb: \xff\n", 2, "is not UTF-8"),
        (b"a: 1\nb: \x07\n", 2, "control character"),
        (b"? [1]\n: 2\n", 1, "a key that is not a word"),
        (b"[" * 100 + b"]" * 100, 1, "is nested too deep"),
        (b"[" * 100_000, 1, "is "),
        (b"a: &x [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
            f"a{n}: &x{n} [{','.join([f'*x{n - 1 if n else str()}'] * 10)}]\n".encode() for n in range(8)
        ), None, "aliases multiply"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: bytes, line: int | None, said: str) -> None:
    with pytest.raises(TreeError, match=said) as caught:
        parse(text)
    assert line is None or caught.value.line == line
    assert "\n" not in caught.value.message


def test_lines_of_json() -> None:
    nodes = list(parse_lines(b'{"a": 1}\n\n{"a": "x"}'))
    assert [(node.line, node.value()) for node in nodes] == [(1, {"a": 1}), (3, {"a": "x"})]
    with pytest.raises(TreeError, match="is not JSON") as caught:
        list(parse_lines(b'{"a": 1}\n{"a": '))
    assert caught.value.line == 2


def test_both_loaders_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"{a: no, b: '1', c: 1, d: ~, e: [x, \"y\"]}"
    found = parse(text)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parse(text) == found


def test_json_may_have_tabs() -> None:
    assert parse(b'{\n\t"a":\t[1]}')[0].value() == {"a": [1]}


# --------------------------------------------------------------------------------------------------------------- specs


def test_forms_that_rest_takes() -> None:
    spec, reading = spec_of(
        """
        image: busybox:1
        command: sh -c 'echo "a b"'
        entrypoint: [sleep, 5, no]
        envs: {A: 1, B: true, C: no, D: 0x10, E: "", F: 1.50}
        labels: {team: 7}
        metadata: {a: [1, null, {b: true}], c: 1.5}
        cron: "0 3 * * *"
        timeZone: Europe/Berlin
        overlap: queue
        timeout: 2h30m
        jitter: 90
        stopGrace: 1.5
        endAt: 2030-01-31 08:00:00+01:00
        expiration: 1900000000
        retries: 3
        backoff: {min: 1s, factor: 1.5}
        resources: {memory: 1.5g, cpus: 0.5}
        logLimit: 64m
        init: true
        mounts: [{source: /a, target: /b, readOnly: true, type: bind}]
        priority: null
        """
    )
    assert reading.wrong == []
    assert list(spec.command) == ["sh", "-c", 'echo "a b"']
    assert list(spec.entrypoint) == ["sleep", "5", "no"]
    assert dict(spec.envs) == {"A": "1", "B": "true", "C": "no", "D": "0x10", "E": "", "F": "1.50"}
    assert (spec.overlap, spec.timeout.seconds, spec.jitter.seconds) == (Overlap.QUEUE, 9000, 90)
    assert (spec.stop_grace.nanos, spec.end_at.seconds, spec.expiration.seconds) == (
        500_000_000,
        1896073200,
        1900000000,
    )
    assert (spec.resources.memory, spec.log_limit) == (3 * 2**29, 64 * 2**20)
    assert (spec.mounts[0].read_only, spec.HasField("priority")) == (True, False)
    assert to_tree(spec)["metadata"] == {"a": [1, None, {"b": True}], "c": 1.5}


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("imgae: x", "spec.imgae", "is not a field of JobSpec; did you mean `image`?"),
        ("start_in: 1s", "spec.start_in", "did you mean `startIn`?"),
        ("timeout: soon", "spec.timeout", "is not a duration"),
        ("timeout: {a: 1}", "spec.timeout", "must be a string, not an object"),
        ("retries: many", "spec.retries", "must be a number"),
        ("retries: 1.5", "spec.retries", "must be a whole number"),
        ("retries: -1", "spec.retries", "must be a whole number"),
        ("init: 'yes'", "spec.init", "must be true or false"),
        ("overlap: twice", "spec.overlap", "must be one of ALLOW, SKIP, REPLACE, QUEUE"),
        ('command: "\'"', "spec.command", "can't be split into words"),
        ("envs: {A: null}", 'spec.envs["A"]', "must be a string, not null"),
        ("envs: [A]", "spec.envs", "must be an object, not a list"),
        ("endAt: tomorrow", "spec.endAt", "RFC 3339"),
        ("endAt: 1900000000000", "spec.endAt", "not milliseconds"),
        ("logLimit: 64q", "spec.logLimit", "is not a size"),
        ("logLimit: 0.3k", "spec.logLimit", "is not a size"),
        ("mounts: [{source: 1, tarrget: /b}]", "spec.mounts[0].tarrget", "did you mean `target`?"),
        ("{cron: '@daily', startIn: 1s}", "spec.startIn", "and cron exclude each other"),
        ("[]", "spec", "must be an object, not a list"),
        ("metadata: 1", "spec.metadata", "must be an object"),
        ('image: "a\\0b"', "spec.image", "contains what is no text"),
    ],
)
def test_wrong_forms_are_told(text: str, path: str, said: str) -> None:
    _, reading = spec_of(text)
    [wrong] = reading.wrong
    assert wrong.path == path
    assert said in wrong.message


# ----------------------------------------------------------------------------------------------------------- manifests

GOOD = """\
set: reports
jobs:
  - taskId: reports
    jobId: nightly
    spec:
      image: i:1
      cron: "@daily"
  - taskId: reports
    jobId: weekly
    spec: {image: i:1, cron: "@weekly"}
"""


def test_a_manifest() -> None:
    found = read([("jobs.yaml", GOOD.encode())], "")
    assert (found.set_name, found.wrong) == ("reports", [])
    assert [(job.task, job.job_id, job.place("spec.image"), job.place()) for job in found.jobs] == [
        ("reports", "nightly", "jobs.yaml:6", "jobs.yaml:3"),
        ("reports", "weekly", "jobs.yaml:10", "jobs.yaml:8"),
    ]
    assert found.jobs[0].spec.labels[LABEL] == "reports"
    assert found.jobs[0].place("spec.nowhere.x") == "jobs.yaml:5"


def test_what_get_and_ps_give_can_be_applied() -> None:
    text = (
        "taskId: t\njobId: a\nstate: ACTIVE\nrevision: 3\nspec: {image: i, labels: {}, timeout: null}\nexecutions: []\n"
    )
    found = read(
        [("a", text.encode()), ("b", b'{"items": [{"taskId": "t", "jobId": "b", "spec": {"image": "i"}}]}')], ""
    )
    assert found.wrong == []
    assert [job.job_id for job in found.jobs] == ["a", "b"]
    assert not found.jobs[0].spec.labels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs: 5", "jobs.yaml:1: `jobs` must be a list"),
        ("a word", "jobs.yaml:1: must be an object with `jobs`, or a list of jobs"),
        ("job: []\njobs: []", "jobs.yaml:1: `job` is none of `jobs` and `set`"),
        ("jobs:\n  - 5", "jobs.yaml:2: a job must be an object with `taskId`, `jobId`, `spec`"),
        ("jobs:\n  - jobId: a\n    spec: {}", "jobs.yaml:2: a job needs `taskId`"),
        ("jobs:\n  - {taskId: t, jobId: a, spec: {}, task: x}", "jobs.yaml:2: `task` is none of"),
        ("- {taskId: t, jobId: a, spec: {}}\n- {taskId: t, jobId: a, spec: {}}", "jobs.yaml:2: the job 'a' stands at"),
        ("- taskId: t\n  jobId: a\n  spec:\n    envs:\n      P: '[redacted]'", "jobs.yaml:5: spec.envs"),
        ("- taskId: t\n  jobId: a\n  spec:\n    retries: x", "jobs.yaml:4: spec.retries: must be a number"),
        ("set: ' x'\njobs: []", "can't name a set"),
        ("jobs: [", "is not YAML"),
    ],
)
def test_wrong_manifests(text: str, said: str) -> None:
    found = read([("jobs.yaml", text.encode())], "")
    assert any(said in one for one in found.wrong), found.wrong


def test_two_names_of_a_set() -> None:
    assert "the set is 'reports' here, and 'other' elsewhere" in read([("f", GOOD.encode())], "other").wrong[0]


def test_differences() -> None:
    before: dict[str, Any] = {"image": "a", "envs": {"A": "1", "x y": "2"}, "command": ["a"], "cron": None}
    after: dict[str, Any] = {"image": "b", "envs": {"A": "1", "B": "2"}, "command": ["a", "b"], "cron": None}
    assert list(differences(before, after)) == [
        ("spec.image", "a", "b"),
        ('spec.envs["x y"]', "2", None),
        ("spec.envs.B", None, "2"),
        ("spec.command", ["a"], ["a", "b"]),
    ]
    assert list(differences(before, before)) == []


# ------------------------------------------------------------------------------------------------------------ contexts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "easyq" / "contexts.toml"


def test_contexts_are_kept(path: Path) -> None:
    assert contexts.load(path) == contexts.Contexts(servers={})
    found = contexts.Contexts(servers={"prod": "h:1", "a.b": "[::1]:2"}, current="prod")
    contexts.save(path, found)
    assert contexts.load(path) == found
    assert [one.name for one in path.parent.iterdir()] == ["contexts.toml"]
    contexts.save(path, found.without("prod"))
    assert contexts.load(path) == contexts.Contexts(servers={"a.b": "[::1]:2"})


def test_which_server_is_chosen(path: Path) -> None:
    contexts.save(path, contexts.Contexts(servers={"prod": "prod:1", "dev": "dev:2"}, current="prod"))
    both = {"EASYQ_SERVER": "env:3", "EASYQ_CONTEXT": "dev"}
    for server, context, environ, chosen in (
        ("x:9", None, both, "x:9"),
        (None, "dev", both, "dev:2"),
        (None, None, both, "env:3"),
        (None, None, {"EASYQ_CONTEXT": "dev"}, "dev:2"),
        (None, None, {}, "prod:1"),
    ):
        assert contexts.choose(server, context, environ, path).server == chosen
    assert contexts.choose(None, None, {}, path.parent / "none").server == "127.0.0.1:10001"


@pytest.mark.parametrize(
    ("text", "server"),
    [("h", "h:10001"), ("h:1", "h:1"), ("[::1]", "[::1]:10001"), ("[::1]:5", "[::1]:5"), ("unix:/a/b", "unix:/a/b")],
)
def test_addresses(text: str, server: str) -> None:
    assert contexts.checked_server(text) == server


@pytest.mark.parametrize("text", ["", "h:0", "h:70000", "h:x", "::1", "http://h:1", "h h:1", "unix:", "h:１"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(contexts.ContextError):
        contexts.checked_server(text)


@pytest.mark.parametrize("text", ["[contexts", "contexts = 5", "[contexts.a]\nserver", "[contexts.a]\nx = 1", "\x00"])
def test_a_broken_file_of_contexts(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(contexts.ContextError, match="is not a file of contexts"):
        contexts.load(path)


def test_where_the_file_is() -> None:
    assert contexts.file_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/easyq/contexts.toml")
    assert contexts.file_path({"XDG_CONFIG_HOME": "x", "HOME": "/h"}) == Path("/h/.config/easyq/contexts.toml")
