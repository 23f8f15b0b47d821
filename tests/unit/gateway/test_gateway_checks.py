"""Checks that both protocols share: unknown fields, the schema's rules in words, the rules of the domain."""

import re
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.unknown_fields import UnknownFieldSet

from easyq._vendor.buf.validate import validate_pb2
from easyq.v1.execution_service_pb2 import GetExecutionRequest, ListExecutionsRequest
from easyq.v1.job_pb2 import Execution
from easyq.v1.job_service_pb2 import BatchItem, CreateJobRequest, ListJobsRequest, PutJobRequest
from easyq.v1.spec_pb2 import JobSpec, Misfire, OnLost, Overlap, Pull, ReportFailure
from easyq_chassis.errors import InvalidArgument
from easyq_gateway import convert
from easyq_gateway.codec.rules import PATTERNS
from easyq_gateway.domain.defaults import Defaults
from easyq_gateway.domain.problems import Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.http_rules import FILES
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.defaults import TaskDefaults

NOW = 1_900_000_000_000


class StandingClock:
    def now_ms(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


CHECKER = Checker(clock=StandingClock(), redactor=Redactor(), defaults=TaskDefaults(Defaults()))
SECONDS = NOW // 1000


def request(**fields: Any) -> CreateJobRequest:
    return CreateJobRequest(task_id="t", spec=JobSpec(**{"image": "a:1", **fields}))


def problems(message: Any) -> dict[str, str]:
    return {problem.path: problem.message for problem in CHECKER.problems(message)}


def changed(change: Any) -> CreateJobRequest:
    """A request after `change` has worked on its spec."""
    made = request()
    change(made.spec)
    return made


def recur(spec: JobSpec) -> JobSpec:
    """The spec, with a cron."""
    spec.cron = "0 4 * * *"
    return spec


def window(spec: JobSpec, start_after: int, end_at: int) -> None:
    recur(spec).start_after.FromSeconds(SECONDS + start_after)
    spec.end_at.FromSeconds(SECONDS + end_at)


def resolve(spec: JobSpec, defaults: Defaults) -> None:
    convert.resolve(spec, convert.spec_of(defaults), defaults)


def test_a_sound_request() -> None:
    assert problems(request(command=["a"], envs={"A": "1"}, retries=3)) == {}


@pytest.mark.parametrize(
    ("message", "path", "words"),
    [
        (CreateJobRequest(task_id="t"), "spec", "is required"),
        (CreateJobRequest(task_id="a b", spec=JobSpec(image="a")), "taskId", "1 to 128 letters"),
        (CreateJobRequest(task_id="", spec=JobSpec(image="a")), "taskId", "1 to 128 letters"),
        (CreateJobRequest(task_id="t" * 129, spec=JobSpec(image="a")), "taskId", "1 to 128 letters"),
        (CreateJobRequest(task_id="t", spec=JobSpec(image="a"), idempotency_key="é"), "idempotencyKey", "ASCII"),
        (PutJobRequest(task_id="t", job_id="/", spec=JobSpec(image="a")), "jobId", "1 to 128 letters"),
        (PutJobRequest(task_id="t", job_id="j", spec=JobSpec(image="a"), revision=-1), "revision", "greater than"),
        (request(image=""), "spec.image", "is required"),
        (request(image="a b"), "spec.image", "spaces"),
        (request(image="x" * 513), "spec.image", "512"),
        (request(image="A"), "spec.image", "lower case"),
        (request(command=["a", "\0"]), "spec.command[1]", "NUL"),
        (request(command=["a"] * 1025), "spec.command", "1024"),
        (request(command=["x" * 131_072]), "spec.command[0]", "131071"),
        (request(envs={"A=B": "1"}), 'spec.envs["A=B"]', "must not contain `=`"),
        (request(envs={"": "1"}), 'spec.envs[""]', "must not be empty"),
        (request(envs={"A\n": "1"}), 'spec.envs["A\ufffd"]', "contain"),
        (request(envs={"EASYQ_X": "1"}), 'spec.envs["EASYQ_X"]', "set by EasyQ"),
        (request(labels={"-": "1"}), 'spec.labels["-"]', "letters"),
        (request(labels={"easyq.x": "1"}), 'spec.labels["easyq.x"]', "EasyQ's own"),
        (request(labels={"a": "x" * 1025}), 'spec.labels["a"]', "1024"),
        (request(cron="x" * 257), "spec.cron", "256"),
        (request(cron="* * * * *", time_zone="x" * 65), "spec.timeZone", "64"),
        (request(cron="* * * * *", overlap=9), "spec.overlap", "one of ALLOW, SKIP, REPLACE, QUEUE"),
        (request(cron="* * * * *", misfire=9), "spec.misfire", "one of SKIP, ONCE, ALL"),
        (changed(lambda spec: recur(spec).jitter.FromSeconds(86_401)), "spec.jitter", "86400s"),
        (changed(lambda spec: recur(spec).jitter.FromSeconds(-1)), "spec.jitter", "0s"),
        (changed(lambda spec: recur(spec).misfire_deadline.FromMilliseconds(999)), "spec.misfireDeadline", "1s"),
        (changed(lambda spec: recur(spec).misfire_deadline.FromSeconds(40_000_000)), "spec.misfireDeadline", "315360"),
        (changed(lambda spec: recur(spec).end_at.FromSeconds(SECONDS)), "spec.endAt", "in the past"),
        (changed(lambda spec: window(spec, 50, 50)), "spec.endAt", "not after startAfter"),
        (changed(lambda spec: window(spec, 400_000_000, 500_000_000)), "spec.startAfter", "ten years"),
        (changed(lambda spec: setattr(recur(spec).start_after, "nanos", -1)), "spec.startAfter", "nanos"),
        (request(agent_labels={"-": "1"}), 'spec.agentLabels["-"]', "letters"),
        (request(agent_labels={"a": "x" * 1025}), 'spec.agentLabels["a"]', "1024"),
        (request(agent_labels={"a": "\0"}), 'spec.agentLabels["a"]', "NUL"),
        (request(agent_labels={f"a{i}": "" for i in range(17)}), "spec.agentLabels", "16"),
        (request(time_zone="UTC"), "spec.timeZone", "recurring"),
        (request(overlap=1), "spec.overlap", "recurring"),
        (request(misfire=3), "spec.misfire", "recurring"),
        (changed(lambda spec: spec.jitter.FromSeconds(1)), "spec.jitter", "recurring"),
        (changed(lambda spec: spec.misfire_deadline.FromSeconds(5)), "spec.misfireDeadline", "recurring"),
        (changed(lambda spec: spec.start_after.FromSeconds(SECONDS)), "spec.startAfter", "recurring"),
        (changed(lambda spec: spec.end_at.FromSeconds(SECONDS + 5)), "spec.endAt", "recurring"),
        (request(max_runs=1), "spec.maxRuns", "recurring"),
        (request(retries=1001), "spec.retries", "1000"),
        (request(retry_on=["nope"]), "spec.retryOn[0]", "exit code"),
        (request(retry_on=["256"]), "spec.retryOn[0]", "0 to 255"),
        (changed(lambda spec: spec.timeout.FromSeconds(0)), "spec.timeout", "greater than 0s"),
        (changed(lambda spec: spec.timeout.FromSeconds(-1)), "spec.timeout", "greater than 0s"),
        (changed(lambda spec: spec.start_in.FromSeconds(-1)), "spec.startIn", "greater than or equal to 0s"),
        (changed(lambda spec: spec.start_in.FromSeconds(315_360_001)), "spec.startIn", "315360000s"),
        (changed(lambda spec: setattr(spec.start_in, "nanos", 2_000_000_000)), "spec.startIn", "nanos"),
        (changed(lambda spec: spec.start_in.MergeFrom(Duration(seconds=1, nanos=-1))), "spec.startIn", "another sign"),
        (changed(lambda spec: spec.start_at.FromSeconds(SECONDS + 400_000_000)), "spec.startAt", "ten years"),
        (changed(lambda spec: setattr(spec.start_at, "seconds", 10**12)), "spec.startAt", "9999"),
        (changed(lambda spec: setattr(spec.expiration, "nanos", -1)), "spec.expiration", "nanos"),
        (changed(lambda spec: setattr(spec.backoff, "factor", float("nan"))), "spec.backoff.factor", "1 and"),
        (changed(lambda spec: setattr(spec.resources, "cpus", float("inf"))), "spec.resources.cpus", ""),
        (changed(lambda spec: setattr(spec.resources, "memory", 5)), "spec.resources.memory", "6 MiB"),
        (request(pull=9), "spec.pull", "one of ALWAYS, MISSING, NEVER"),
        (request(workdir="a"), "spec.workdir", "absolute path"),
        (request(user="a b"), "spec.user", "spaces"),
        (request(platform="linux"), "spec.platform", "os/arch"),
        (request(devices=["/sys/x"]), "spec.devices[0]", "/dev/x"),
        (changed(lambda spec: spec.mounts.add(source="/a")), "spec.mounts[0].target", "absolute path in the container"),
        (changed(lambda spec: spec.mounts.add(source="a", target="/b")), "spec.mounts[0].source", "absolute"),
        (changed(lambda spec: spec.metadata.update({"a": float("nan")})), 'spec.metadata["a"]', "finite"),
        (changed(lambda spec: spec.metadata.update({"a": ["x", "\0"]})), 'spec.metadata["a"][1]', "NUL"),
        (changed(lambda spec: spec.metadata.fields["a"].SetInParent()), 'spec.metadata["a"]', "no value"),
        (request(envs={"A": "\0"}), 'spec.envs["A"]', "NUL"),
        (GetExecutionRequest(execution_id="x"), "executionId", "UUID"),
        (ListExecutionsRequest(state=[Execution.LOST, 99]), "state[1]", "one of SCHEDULED"),  # type: ignore[list-item]
        (ListJobsRequest(label=["a"]), "label[0]", "key=value"),
        (ListJobsRequest(label=["a=\0"]), "label[0]", "NUL"),
        (ListJobsRequest(page_size=0), "pageSize", "1"),
        (ListJobsRequest(page_size=1001), "pageSize", "1000"),
    ],
)  # fmt: skip
def test_what_is_refused(message: Any, path: str, words: str) -> None:
    found = problems(message)
    assert list(found) == [path]
    assert words in found[path]


def test_a_spec_that_is_too_large() -> None:
    made = request(command=["x" * 100_000] * 3)
    [problem] = CHECKER.problems(made)
    assert (problem.path, problem.reason) == ("spec", "TOO_LARGE")
    with pytest.raises(InvalidArgument) as error:
        CHECKER.require(made)
    assert error.value.reason == "TOO_LARGE"


def test_a_cron_that_could_not_be_read_was_given_all_the_same() -> None:
    made = request(time_zone="UTC", max_runs=3)
    found = CHECKER.problems(made, [Problem(path="spec.cron", message="must be a string, not a number")])
    assert [problem.path for problem in found] == ["spec.cron"]


def test_a_sound_recurring_request() -> None:
    made = changed(lambda spec: window(spec, -50, 50))
    made.spec.MergeFrom(JobSpec(time_zone="Europe/Berlin", overlap=Overlap.ALLOW, misfire=Misfire.ALL, max_runs=7))
    made.spec.jitter.FromSeconds(0)
    assert problems(made) == {}


def test_defaults_of_a_recurring_job() -> None:
    spec = JobSpec(image="a", cron="@daily")
    resolve(spec, Defaults())
    assert (spec.time_zone, spec.overlap, spec.misfire, spec.max_runs) == ("UTC", 2, 2, 0)
    assert spec.HasField("jitter")
    assert (spec.jitter.ToMilliseconds(), spec.misfire_deadline.seconds) == (0, 60)
    again = JobSpec(image="a", cron="@daily", time_zone="Asia/Tokyo")
    again.jitter.FromSeconds(5)
    again.misfire_deadline.FromSeconds(7)
    resolve(again, Defaults())
    assert (again.time_zone, again.jitter.seconds, again.misfire_deadline.seconds) == ("Asia/Tokyo", 5, 7)
    plain = JobSpec(image="a")
    resolve(plain, Defaults())
    assert (plain.time_zone, plain.HasField("jitter"), plain.HasField("misfire_deadline")) == ("", False, False)


@pytest.mark.parametrize("levels", [31, 32, 33])
def test_depth_of_free_data_by_grpc(levels: int) -> None:
    # Lists, of which protobuf's parser takes more levels than of objects.
    value: Any = 1
    for _ in range(levels):
        value = [value]
    made = changed(lambda spec: spec.metadata.update({"a": value}))
    assert bool(problems(made)) is (levels > 31)
    deep: Any = {}
    for _ in range(levels):
        deep = {"a": deep}
    assert bool(problems(changed(lambda spec: spec.metadata.update(deep)))) is (levels > 31)


# Field 999 with the number 1, as a client of a later version would send it.
LATER = b"\xb8\x3e\x01"


@pytest.mark.parametrize(
    ("path", "grow"),
    [
        ("", lambda made: made.MergeFromString(LATER)),
        ("spec", lambda made: made.spec.MergeFromString(LATER)),
        ("spec.backoff", lambda made: made.spec.backoff.MergeFromString(LATER)),
        ("spec.timeout", lambda made: (made.spec.timeout.FromSeconds(1), made.spec.timeout.MergeFromString(LATER))),
        ("spec.startAt", lambda made: made.spec.start_at.MergeFromString(b"\x08\x80\xd7\xf9\x89\x07" + LATER)),
        ("spec.mounts[0]", lambda made: made.spec.mounts.add(target="/a", type=3).MergeFromString(LATER)),
        ("spec.metadata", lambda made: made.spec.metadata.MergeFromString(LATER)),
    ],
)  # fmt: skip
def test_unknown_fields_at_any_depth(path: str, grow: Any) -> None:
    made = request()
    grow(made)
    assert len(UnknownFieldSet(CreateJobRequest.FromString(made.SerializeToString()))) == (path == "")
    found = problems(made)
    assert list(found) == [path]
    assert "999" in found[path]


def test_what_the_codec_found_comes_first_and_hides_what_follows_from_it() -> None:
    made = request(image="")
    found = CHECKER.problems(made, [Problem(path="spec.image", message="must be a string, not a number")])
    assert [problem.message for problem in found] == ["must be a string, not a number"]


def test_an_item_of_a_batch_has_its_own_place() -> None:
    found = CHECKER.problems(BatchItem(task_id=" ", spec=JobSpec()), (), "jobs[3]")
    assert {problem.path for problem in found} == {"jobs[3].taskId", "jobs[3].spec.image"}


def test_every_pattern_of_the_schema_has_words() -> None:
    seen: set[str] = set()

    def walk(descriptor: Descriptor) -> None:
        for field in descriptor.fields:
            options: Any = field.GetOptions()
            seen.update(re.findall(r'pattern: "((?:[^"\\]|\\.)*)"', str(options.Extensions[validate_pb2.field])))
            if field.message_type is not None and field.message_type.full_name.startswith("easyq."):
                walk(field.message_type)

    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                walk(method.input_type)
    assert seen
    assert {pattern.encode().decode("unicode_escape") for pattern in seen} == set(PATTERNS)


def test_defaults_leave_nothing_unset_that_has_one() -> None:
    spec = JobSpec(image="a")
    spec.mounts.add(source="/a", target="/b")
    resolve(spec, Defaults(retries=2))
    assert (spec.retries, spec.infra_retries, spec.priority, spec.log_limit) == (2, 5, 0, 104857600)
    assert (spec.pull, spec.on_lost, spec.overlap, spec.misfire, spec.mounts[0].type) == (1, 1, 2, 2, 1)
    assert (spec.backoff.min.seconds, spec.backoff.factor, spec.backoff.max.seconds, spec.backoff.jitter) == (
        1,
        2,
        300,
        0.5,
    )
    assert (spec.stop_grace.seconds, spec.HasField("init"), spec.HasField("privileged")) == (10, True, True)
    assert not spec.HasField("timeout")
    again = JobSpec()
    again.CopyFrom(spec)
    resolve(again, Defaults())
    assert again == spec


def test_what_is_set_stays() -> None:
    spec = JobSpec(
        image="a:1",
        retries=0,
        pull=Pull.NEVER,
        on_lost=OnLost.WAIT,
        infra_retries=0,
        priority=-5,
        init=True,
        log_limit=0,
    )
    spec.backoff.min.FromSeconds(400)
    # Seconds of 0 say nothing on the wire, and must not let the default's own shine through.
    spec.stop_grace.FromMilliseconds(500)
    resolve(spec, Defaults(retries=9, backoff_min_ms=1_500, stop_grace_ms=10_250))
    assert (spec.stop_grace.ToMilliseconds(), spec.backoff.min.ToMilliseconds()) == (500, 400_000)
    assert (spec.retries, spec.pull, spec.on_lost, spec.infra_retries, spec.priority) == (0, 3, 3, 0, -5)
    assert (spec.init, spec.log_limit, spec.backoff.max.seconds) == (True, 0, 400)


def test_whether_failures_are_reported_is_left_open_unless_somebody_says_it() -> None:
    unset, unspecified, said = (
        JobSpec(image="a:1", report_failure=mode) for mode in (None, ReportFailure.UNSPECIFIED, ReportFailure.NONE)
    )
    for spec in (unset, unspecified, said):
        resolve(spec, Defaults())
    assert [spec.HasField("report_failure") for spec in (unset, unspecified, said)] == [False, False, True]
    for spec in (unset, unspecified, said):
        resolve(spec, Defaults(report_failure="ALL"))
    assert [spec.report_failure for spec in (unset, unspecified, said)] == [3, 3, 1]


def test_a_resolved_spec_can_be_sent_again() -> None:
    made = request()
    resolve(made.spec, Defaults())
    assert problems(made) == {}
