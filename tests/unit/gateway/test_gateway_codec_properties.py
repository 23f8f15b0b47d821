"""Properties of the codec: it never raises but for what is no JSON, and what it shows it reads."""

import json
from typing import Any

from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from easyq.v1.job_service_pb2 import BatchCreateJobsRequest, BatchItem, CreateJobRequest
from easyq.v1.notify_pb2 import Webhook
from easyq.v1.spec_pb2 import Backoff, JobSpec, Misfire, Mount, OnLost, Overlap, Pull
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import InvalidArgument
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.encode import to_json
from easyq_gateway.codec.json_text import Malformed, parse_json
from easyq_gateway.convert import error_body
from easyq_gateway.domain.defaults import Defaults
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.defaults import TaskDefaults

CHECKER = Checker(clock=SystemClock(), redactor=Redactor(), defaults=TaskDefaults(Defaults()))
NAMES = [field.json_name for field in JobSpec.DESCRIPTOR.fields]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1h", "512m", "ALWAYS", "2030-01-01T00:00:00Z", "a:1", "/x", "\ud800", "\0", "'", "75"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from([*NAMES, "nope", "start_at"]), ANYTHING, max_size=8)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u d8 ', max_size=40).map(str.encode))
@settings(max_examples=500)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        tree = parse_json(body)
    except Malformed:
        return
    decode(tree, JobSpec(), "spec", Problems())


@given(BODIES)
@settings(max_examples=400)
def test_any_json_is_taken_or_refused_by_its_fields(body: dict[str, Any]) -> None:
    """Whatever passes the codec passes every later check as well, or is refused by them: nothing else happens."""
    request, problems = CreateJobRequest(task_id="t"), Problems()
    request.spec.SetInParent()
    decode(parse_json(json.dumps(body).encode()), request.spec, "spec", problems)
    try:
        CHECKER.require(request, problems)
    except InvalidArgument as error:
        told = error_body(error)
        assert 1 <= len(told.fields) <= 16
        assert all(field.field.startswith("spec") and field.message for field in told.fields)
        assert len(to_json(told).encode()) <= 4096
    else:
        assert not problems
        CHECKER.resolve(request.task_id, request.spec)


@given(st.lists(ANYTHING | st.fixed_dictionaries({"spec": BODIES}), max_size=3))
@settings(max_examples=200)
def test_any_batch_names_the_items_that_are_wrong(items: list[Any]) -> None:
    problems = Problems()
    decode(parse_json(json.dumps({"jobs": items}).encode()), BatchCreateJobsRequest(), "", problems)
    assert all(problem.path.startswith("jobs[") for problem in problems)


SHORT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
FREE = st.recursive(
    st.none() | st.booleans() | NUMBERS | SHORT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=10,
)


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Specs of every kind of field, most of them sound."""
    spec = JobSpec(
        image=draw(SHORT),
        command=draw(st.lists(SHORT, max_size=3)),
        envs=draw(st.dictionaries(SHORT, SHORT, max_size=3)),
        labels=draw(st.dictionaries(SHORT, SHORT, max_size=3)),
        retry_on=draw(st.lists(SHORT, max_size=3)),
        pull=draw(st.sampled_from(Pull.Mode.values())),
        on_lost=draw(st.sampled_from(OnLost.Mode.values())),
        overlap=draw(st.sampled_from(Overlap.Mode.values())),
        misfire=draw(st.sampled_from(Misfire.Mode.values())),
        time_zone=draw(SHORT),
        agent_labels=draw(st.dictionaries(SHORT, SHORT, max_size=3)),
        max_runs=draw(st.integers(0, 2**32 - 1)),
        shm_size=draw(st.integers(-(2**63), 2**63 - 1)),
        workdir=draw(SHORT),
    )
    for name, values in {
        "retries": st.integers(0, 2**32 - 1),
        "priority": st.integers(-(2**31), 2**31 - 1),
        "init": st.booleans(),
        "log_limit": st.integers(-(2**63), 2**63 - 1),
    }.items():
        value = draw(st.none() | values)
        if value is not None:
            setattr(spec, name, value)
    if draw(st.booleans()):
        spec.metadata.update(draw(st.dictionaries(SHORT, FREE, max_size=3)))
    if draw(st.booleans()):
        spec.cron = draw(SHORT)
    elif draw(st.booleans()):
        spec.start_at.FromMilliseconds(draw(st.integers(-62_135_596_800_000, 253_402_300_799_999)))
    for message in (spec.start_after, spec.end_at):
        if draw(st.booleans()):
            message.FromMilliseconds(draw(st.integers(-62_135_596_800_000, 253_402_300_799_999)))
    for span in (spec.jitter, spec.misfire_deadline):
        if draw(st.booleans()):
            span.FromMilliseconds(draw(st.integers(0, 315_360_000_000)))
    if draw(st.booleans()):
        spec.timeout.FromMilliseconds(draw(st.integers(0, 315_360_000_000)))
    if draw(st.booleans()):
        factor = draw(st.floats(allow_nan=False, allow_infinity=False))
        spec.backoff.CopyFrom(Backoff(factor=factor))
    if draw(st.booleans()):
        headers = draw(st.dictionaries(SHORT, SHORT, max_size=2))
        spec.webhooks.fails.append(Webhook(url=draw(SHORT), headers=headers, secret=draw(SHORT)))
        spec.notify.finishes.append(draw(SHORT))
    for _ in range(draw(st.integers(0, 2))):
        spec.mounts.append(
            Mount(source=draw(SHORT), target=draw(SHORT), type=draw(st.sampled_from(Mount.Type.Kind.values())))
        )
    return spec


@given(specs())
@settings(max_examples=300)
def test_what_is_shown_can_be_sent_back(spec: JobSpec) -> None:
    read, problems = JobSpec(), Problems()
    decode(parse_json(to_json(spec).encode()), read, "spec", problems)
    assert problems == []
    # A message that is empty of what it may hold is shown, and read, as one that is there.
    assert read == spec


@given(st.dictionaries(SHORT, FREE, max_size=4))
def test_free_data_comes_back_as_it_was(data: dict[str, Any]) -> None:
    spec, problems = JobSpec(), Problems()
    decode(parse_json(json.dumps({"metadata": data}).encode()), spec, "spec", problems)
    if not problems:
        expected = Struct()
        expected.update(data)
        assert spec.metadata == expected
        assert json.loads(to_json(spec))["metadata"] == data


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_message_of_grpc_is_taken_or_refused(data: bytes) -> None:
    try:
        item = BatchItem.FromString(data)
    except Exception:  # noqa: BLE001 - what is no message never reaches the checks
        return
    assert all(problem.message for problem in CHECKER.problems(item))
