"""The document says what REST does: no more routes, no fewer, and schemas that agree with codec and rules."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from easyq.v1 import error_reason_pb2
from easyq.v1.job_service_pb2 import CreateJobRequest
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.clock import SystemClock
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.codec.flavours import read_size
from easyq_gateway.codec.json_text import parse_json
from easyq_gateway.codec.wellknown import fill_duration
from easyq_gateway.domain.defaults import Defaults
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.http_rules import all_bindings
from easyq_gateway.openapi import errors, examples, forms
from easyq_gateway.openapi.comments import load_comments
from easyq_gateway.openapi.document import Document, template
from easyq_gateway.openapi.page import prose, render, type_words
from easyq_gateway.openapi.rules import is_required
from easyq_gateway.openapi.schemas import Schemas, component_name
from easyq_gateway.rest.answers import _STATUS
from easyq_gateway.rest.byhand import ByHand
from easyq_gateway.rest.documentation import Documentation
from easyq_gateway.rest.events import Events
from easyq_gateway.rest.live import Live
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.defaults import TaskDefaults
from tests.unit.gateway.test_gateway_codec_properties import BODIES, specs

COMMENTS = load_comments()
DOCUMENT = Document(COMMENTS, version="1.2.3").build()
CHECKER = Checker(clock=SystemClock(), redactor=Redactor(), defaults=TaskDefaults(Defaults()))
OPERATIONS = [(verb, path, made) for path, verbs in DOCUMENT["paths"].items() for verb, made in verbs.items()]


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """Of a named schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if "$ref" in tree:
            yield tree["$ref"]
        for value in tree.values():
            yield from references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from references(value)


def test_it_is_openapi() -> None:
    schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT))).validate()
    assert DOCUMENT["openapi"] == "3.1.0"
    for reference in set(references(DOCUMENT)):
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found
    names = [made["operationId"] for _, _, made in OPERATIONS]
    assert len(names) == len(set(names))


def test_it_has_every_route_and_no_other() -> None:
    """A route by hand that is missing here belongs into openapi/byhand.py."""
    nothing: Any = None
    by_hand = [
        *ByHand(
            logs=nothing, live=Live(logs=nothing, following=nothing), farm=nothing, exports=nothing, version="1"
        ).routes(),
        *Events(watching=nothing).routes(),
        *Documentation(version="1").routes(),
    ]
    served = {(route.verb, template(route.segments)) for route in by_hand}
    served |= {(binding.verb, template(binding.segments)) for binding in all_bindings()}
    assert {(verb.upper(), path) for verb, path, _ in OPERATIONS} == served


def test_every_call_and_every_taken_message_has_words() -> None:
    for verb, path, made in OPERATIONS:
        assert made.get("summary"), f"{verb} {path}: its rpc has no comment in the protos"
    for name in ("JobSpecInput", "BackoffInput", "MountInput", "ResourcesInput", "Job", "Execution"):
        described = DOCUMENT["components"]["schemas"][name]
        assert described["description"], name
    told = DOCUMENT["components"]["schemas"]["JobSpecInput"]["properties"]
    assert [name for name, field in told.items() if not field.get("description")] == []


def test_errors_of_a_comment_are_answers_of_its_call() -> None:
    answers = DOCUMENT["paths"]["/tasks/{taskId}/jobs/{jobId}/resume"]["post"]["responses"]
    assert {"200", "400", "404", "409", "503"} <= set(answers)
    assert "413" in DOCUMENT["paths"]["/batch"]["post"]["responses"]
    assert "413" not in answers


def test_every_status_and_every_reason_is_told() -> None:
    told = {kind.status for kind in errors.KINDS}
    assert set(_STATUS.values()) - {501} <= told
    reasons = {reason for kind in errors.KINDS for reason in kind.reasons}
    assert reasons == set(error_reason_pb2.ErrorReason.Code.keys()) - {"UNSPECIFIED"}


def test_fields_have_their_names_of_rest() -> None:
    told = json.dumps(DOCUMENT)
    assert re.findall(r"`[a-z]+_[a-z_]+`", told) == []
    assert "`stopGrace`" in told


# ------------------------------------------------------------------------------------------------------- examples
def bodies() -> Iterator[tuple[str, Descriptor, Any]]:
    for name, (_, value) in examples.SPECS.items():
        yield name, JobSpec.DESCRIPTOR, value
    for full_name, shown in examples.BODIES.items():
        descriptor = next(
            one.method.input_type for one in all_bindings() if one.method.input_type.full_name == full_name
        )
        for name, (_, value) in shown.items():
            yield f"{full_name} {name}", descriptor, value


@pytest.mark.parametrize(("name", "descriptor", "value"), list(bodies()))
def test_an_example_is_sound(name: str, descriptor: Descriptor, value: Any) -> None:
    message, problems = GetMessageClass(descriptor)(), Problems()
    decode(parse_json(json.dumps(value).encode()), message, "", problems)
    assert CHECKER.problems(message, problems) == []
    component = component_name(descriptor)
    validator(component if component.endswith("Request") else f"{component}Input").validate(value)


# ------------------------------------------------------------------------------------------ agreement with the codec
@given(BODIES)
@settings(max_examples=600)
def test_whatever_is_accepted_is_described(body: dict[str, Any]) -> None:
    body = {"image": "a:1", **body}
    request, problems = CreateJobRequest(task_id="t"), Problems()
    request.spec.SetInParent()
    decode(parse_json(json.dumps(body).encode()), request.spec, "spec", problems)
    if not CHECKER.problems(request, problems):
        for name in ("labels", "agentLabels"):
            # Whatever its name: an entry that is null is one that was left out.
            if isinstance(body.get(name), dict):
                body[name] = {key: value for key, value in body[name].items() if value is not None}
        validator("JobSpecInput").validate(body)


@pytest.mark.parametrize(
    "body",
    [
        {"image": "a:1", "nope": 1},
        {"image": ""},
        {"image": None},
        {"command": "a"},
        {"image": "a b"},
        {"image": "a:1", "command": 1},
        {"image": "a:1", "envs": {"A": None}},
        {"image": "a:1", "envs": {"A=B": "x"}},
        {"image": "a:1", "envs": {"A\nB": "x"}},
        {"image": "a:1", "retries": -1},
        {"image": "a:1", "retries": 1.5},
        {"image": "a:1", "timeout": 0},
        {"image": "a:1", "timeout": "1m1h"},
        {"image": "a:1", "resources": {"memory": "1t"}},
        {"image": "a:1", "pull": "SOMETIMES"},
        {"image": "a:1", "labels": {"-": "x"}},
        {"image": "a:1", "mounts": [{}]},
        {"image": "a:1", "retryOn": ["1000"]},
        {"image": "a:1", "startAt": True},
    ],
)
def test_what_the_codec_refuses_is_not_described(body: dict[str, Any]) -> None:
    request, problems = CreateJobRequest(task_id="t"), Problems()
    request.spec.SetInParent()
    decode(parse_json(json.dumps(body).encode()), request.spec, "spec", problems)
    assert CHECKER.problems(request, problems)
    assert not validator("JobSpecInput").is_valid(body)


@given(specs())
def test_what_is_shown_is_described(spec: JobSpec) -> None:
    validator("JobSpec").validate(to_tree(spec))


def test_empty_answers_are_described() -> None:
    schemas = Schemas(COMMENTS)
    for binding in all_bindings():
        schemas.shown(binding.method.output_type)
        name = component_name(binding.method.output_type)
        validator(name).validate(to_tree(GetMessageClass(binding.method.output_type)()))


TEXTS = st.text("0123456789.wdhms ", max_size=9) | st.sampled_from(["2h30m50s", "9050s", "250ms", "1.5", " 7 ", "1h1h"])


@given(TEXTS)
@settings(max_examples=1000)
def test_durations_are_read_as_described(text: str) -> None:
    """Both ways, bounds aside."""
    problems = Problems()
    request = JobSpec()
    fill_duration(text, request.start_in, "", problems)
    form = {"anyOf": [one for one in forms.duration_taken({})["anyOf"] if one["type"] == "string"]}
    read = not problems or problems[0].message == "is too long"
    assert jsonschema_rs.is_valid(form, text) == read, problems


@given(st.text("0123456789.bkmgKMG ", max_size=8))
@settings(max_examples=1000)
def test_sizes_are_read_as_described(text: str) -> None:
    problems = Problems()
    read_size(text, "", problems)
    form = forms.taken_by(read_size, {"type": "integer"})
    if not problems or "whole number of bytes" in problems[0].message:
        assert jsonschema_rs.is_valid(form, text)
    else:
        assert not jsonschema_rs.is_valid(form, text)


def test_what_is_required() -> None:
    fields = JobSpec.DESCRIPTOR.fields_by_name
    assert is_required(fields["image"])
    assert [name for name, field in fields.items() if is_required(field)] == ["image"]
    assert is_required(CreateJobRequest.DESCRIPTOR.fields_by_name["task_id"])
    assert not is_required(CreateJobRequest.DESCRIPTOR.fields_by_name["idempotency_key"])
    reset = DOCUMENT["components"]["schemas"]["ResetBreakerRequest"]
    assert reset["required"] == ["kind", "subject"]


# ------------------------------------------------------------------------------------------------------------ page
def test_the_page_has_every_call_and_nothing_that_runs() -> None:
    page = render(DOCUMENT)
    for _, path, made in OPERATIONS:
        assert f"<code>{path}</code>" in page
        assert made["summary"].split("`")[0][:20] in page.replace("&#39;", "'")
    # An address may be told, but nothing is taken from one.
    assert re.search(r"<script|\son\w+=|style=|url\(|@import|(?:src|href|action)=\"?[^\">]*//", page) is None
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_words_of_the_page_are_escaped() -> None:
    assert prose("a <b> `c<d` e") == "<p>a &lt;b&gt; <code>c&lt;d</code> e</p>"
    assert prose("x\n- `A`: one\n- B") == "<p>x</p><ul><li><code>A</code>: one</li><li>B</li></ul>"
    assert type_words({"anyOf": [{"type": "string"}, {"type": ["array", "null"], "items": {"type": "integer"}}]}) == (
        "string or list of integer"
    )
