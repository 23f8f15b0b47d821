"""Query parameters."""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from easyq.v1.job_service_pb2 import CreateJobRequest, ListJobsRequest
from easyq_gateway.codec.query import BadQuery, fill_from_query, parameters, split_query
from easyq_gateway.domain.problems import Problems


def read(query: str, *, taken: tuple[str, ...] = ()) -> tuple[Any, dict[str, str]]:
    request, problems = ListJobsRequest(), Problems()
    fill_from_query(split_query(query), parameters(ListJobsRequest.DESCRIPTOR, taken), request, problems)
    return MessageToDict(request), {problem.path: problem.message for problem in problems}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("&&", {}),
        ("taskId=a%20b+c%2B", {"taskId": "a b c+"}),
        ("state=queued&state=RUNNING", {"state": ["QUEUED", "RUNNING"]}),
        ("label=a%3Db&label=c=d=e", {"label": ["a=b", "c=d=e"]}),
        ("pageSize=5", {"pageSize": 5}),
        ("createdAfter=1900000000", {"createdAfter": "2030-03-17T17:46:40Z"}),
        ("createdAfter=2030-03-17T17:46:40Z", {"createdAfter": "2030-03-17T17:46:40Z"}),
        ("createdAfter=2030-03-17T19:46:40%2B02:00", {"createdAfter": "2030-03-17T17:46:40Z"}),
        ("createdAfter=2030-03-17T19:46:40+02:00", {"createdAfter": "2030-03-17T17:46:40Z"}),
    ],
)
def test_what_is_taken(query: str, fields: Any) -> None:
    assert read(query) == (fields, {})


@pytest.mark.parametrize(
    ("query", "path", "words"),
    [
        ("nope=1", "nope", "is not a query parameter of this path, which takes taskId, state"),
        ("page_size=1", "page_size", "is not a query parameter"),
        ("a%20b=1", '["a b"]', "is not a query parameter"),
        ("pageSize=five", "pageSize", "whole number"),
        ("pageSize=", "pageSize", "whole number"),
        ("pageSize=1.5", "pageSize", "whole number"),
        ("pageSize=1&pageSize=2", "pageSize", "more than once"),
        ("state=nope", "state[0]", "SCHEDULED"),
        ("state=QUEUED&state=", "state[1]", "SCHEDULED"),
        ("createdAfter=yesterday", "createdAfter", "RFC 3339"),
        ("taskId=%00", "taskId", "NUL"),
    ],
)
def test_what_is_refused(query: str, path: str, words: str) -> None:
    problems = read(query)[1]
    assert list(problems) == [path]
    assert words in problems[path]


def test_what_the_path_gives_is_not_a_parameter() -> None:
    assert list(read("taskId=a", taken=("task_id",))[1]) == ["taskId"]


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)]
)
def test_booleans(text: str, value: bool) -> None:
    request, problems = CreateJobRequest(), Problems()
    known = parameters(CreateJobRequest.DESCRIPTOR, ("spec", "task_id"))
    fill_from_query([("validateOnly", text)], known, request, problems)
    assert (request.validate_only, list(problems)) == (value, [])


@pytest.mark.parametrize("text", ["", "yes", "2"])
def test_what_is_no_boolean(text: str) -> None:
    request, problems = CreateJobRequest(), Problems()
    fill_from_query([("validateOnly", text)], parameters(CreateJobRequest.DESCRIPTOR, ()), request, problems)
    assert [problem.path for problem in problems] == ["validateOnly"]


def test_a_body_is_not_a_parameter() -> None:
    assert set(parameters(CreateJobRequest.DESCRIPTOR, ("task_id",))) == {"idempotencyKey", "validateOnly"}


def test_what_is_not_utf8() -> None:
    with pytest.raises(BadQuery):
        split_query("a=%ff")
