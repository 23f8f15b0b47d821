"""Routes from the protos' annotations, and links by the same."""

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from easyq.v1.execution_service_pb2 import ListExecutionsRequest
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2 import ListJobsRequest
from easyq.v1.task_service_pb2 import ListTasksRequest
from easyq_chassis.errors import InvalidArgument
from easyq_gateway.http_rules import Links, Variable, all_bindings, bindings
from easyq_gateway.rest.answers import Refused
from easyq_gateway.rest.router import Router, split_path

LINKS = Links()


def test_every_method_but_streams_has_a_binding() -> None:
    made = {(binding.verb, "/".join(map(str, binding.segments))) for binding in all_bindings()}
    assert ("POST", "tasks/Variable(field='task_id')") in made
    assert len(made) == len(all_bindings())
    assert {binding.body for binding in all_bindings()} == {"", "*", "spec"}


def service(path: str, *, body: str = "", verb: str = "get") -> object:
    """The first method of a file made for the test."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"made{abs(hash((path, body, verb)))}.proto",
        package=f"made{abs(hash((path, body, verb)))}",
        syntax="proto3",
    )
    message = file.message_type.add(name="Ask")
    message.field.add(name="name", number=1, type=9, label=1)
    message.field.add(name="count", number=2, type=5, label=1)
    method = file.service.add(name="S").method.add(name="M", input_type="Ask", output_type="Ask")
    rule = method.options.Extensions[annotations_pb2.http]
    if verb == "custom":
        rule.custom.kind, rule.custom.path = "HEAD", path
    else:
        setattr(rule, verb, path)
    rule.body = body
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindFileByName(file.name).services_by_name["S"].methods[0]


def test_a_binding() -> None:
    [binding] = bindings(service("/a/{name}/b"))  # type: ignore[arg-type]
    assert binding.segments == ("a", Variable("name"), "b")
    assert (binding.verb, binding.body, binding.variables) == ("GET", "", ("name",))


@pytest.mark.parametrize(
    ("path", "body", "verb"),
    [
        ("/{count}", "", "get"),
        ("/{nope}", "", "get"),
        ("/{name=**}", "", "get"),
        ("/a", "nope", "post"),
        ("/a", "", "custom"),
    ],
)
def test_what_can_not_be_served_is_found_at_the_start(path: str, body: str, verb: str) -> None:
    with pytest.raises(ValueError, match="M"):
        list(bindings(service(path, body=body, verb=verb)))  # type: ignore[arg-type]


def test_paths_of_things() -> None:
    assert LINKS.task("a.b") == "/tasks/a.b"
    assert LINKS.job("t", "a/b c") == "/tasks/t/jobs/a%2Fb%20c"
    assert LINKS.execution("t", "j", "e") == "/tasks/t/jobs/j/executions/e"


def test_the_next_page() -> None:
    assert LINKS.next_page(ListTasksRequest(), "") == ""
    assert LINKS.next_page(ListTasksRequest(page_token="old"), "new=") == "/tasks?pageToken=new%3D"
    request = ListJobsRequest(task_id="t", state=[Job.QUEUED, Job.RUNNING], label=["a=b c"], page_size=2)
    request.created_after.FromSeconds(1_900_000_000)
    assert LINKS.next_page(request, "x") == (
        "/tasks/t/jobs?state=QUEUED&state=RUNNING&label=a%3Db+c&createdAfter=2030-03-17T17%3A46%3A40.000Z"
        "&pageSize=2&pageToken=x"
    )


def test_the_next_page_keeps_the_most_of_the_path() -> None:
    assert LINKS.next_page(ListExecutionsRequest(job_id="j"), "x") == "/jobs/j/executions?pageToken=x"
    assert LINKS.next_page(ListExecutionsRequest(task_id="t"), "x") == "/executions?taskId=t&pageToken=x"
    assert LINKS.next_page(ListExecutionsRequest(task_id="t", job_id="j"), "x").startswith(
        "/tasks/t/jobs/j/executions?"
    )


def routed() -> Router[str]:
    router: Router[str] = Router()
    router.add("GET", ("",), "root")
    router.add("GET", ("a", Variable("x")), "one")
    router.add("POST", ("a", Variable("x")), "make")
    router.add("GET", ("a", "all"), "all")
    router.add("GET", ("a", Variable("x"), "b", Variable("y")), "two")
    router.add("POST", ("b",), "only post")
    return router


@pytest.mark.parametrize(
    ("verb", "path", "handler", "variables"),
    [
        ("GET", "/", "root", {}),
        ("GET", "/a/1", "one", {"x": "1"}),
        ("GET", "/a/1/", "one", {"x": "1"}),
        ("HEAD", "/a/1", "one", {"x": "1"}),
        ("POST", "/a/1", "make", {"x": "1"}),
        ("GET", "/a/all", "all", {}),
        ("POST", "/a/all", "make", {"x": "all"}),
        ("GET", "/a/all/b/2", "two", {"x": "all", "y": "2"}),
        ("GET", "/a/x%2Fy", "one", {"x": "x/y"}),
        ("GET", "/a/x%252Fy", "one", {"x": "x%2Fy"}),
        ("GET", "/a/a+b", "one", {"x": "a+b"}),
        ("GET", "/%61/%C3%A9", "one", {"x": "é"}),
        ("GET", "/a/..", "one", {"x": ".."}),
        ("GET", "/a/%zz", "one", {"x": "%zz"}),
    ],
)
def test_matches(verb: str, path: str, handler: str, variables: dict[str, str]) -> None:
    match = routed().match(verb, path)
    assert (match.handler, match.variables) == (handler, variables)


@pytest.mark.parametrize("path", ["/c", "/a", "/a/", "/a//", "/a/1//", "/a/1/b", "/A/1", "/a%2F1"])
def test_what_is_nowhere(path: str) -> None:
    with pytest.raises(Refused) as refused:
        routed().match("GET", path)
    assert (refused.value.status, refused.value.error.reason) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [("DELETE", "/a/1", "GET, HEAD, POST"), ("GET", "/b", "POST"), ("PUT", "/a/all", "GET, HEAD, POST")],
)
def test_what_is_there_for_other_methods(verb: str, path: str, allow: str) -> None:
    with pytest.raises(Refused) as refused:
        routed().match(verb, path)
    assert (refused.value.status, refused.value.headers["Allow"]) == (405, allow)


def test_a_path_that_is_not_utf8() -> None:
    with pytest.raises(InvalidArgument):
        split_path("/a/%ff")


def test_a_route_that_is_taken() -> None:
    router = routed()
    with pytest.raises(ValueError, match="twice"):
        router.add("GET", ("a", Variable("z")), "other")
