"""The API's own document, as a client gets it; its examples are posted."""

import json
import re
from typing import Any

import pytest

from easyq_gateway.openapi import examples
from tests.integration.gateway.conftest import Client


async def test_the_document(gateway: Client) -> None:
    answer = await gateway.call("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert answer.json["openapi"] == "3.1.0"
    assert answer.json["info"]["version"] == (await gateway.get("/"))["version"]
    assert "post" in answer.json["paths"]["/tasks/{taskId}"]
    assert (await gateway.call("GET", "/openapi.json?x=1")).fields == {
        "x": "is not a query parameter of this path, which takes none"
    }


async def test_the_page_needs_nothing_from_elsewhere(gateway: Client) -> None:
    answer = await gateway.call("GET", "/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    page = answer.body.decode()
    assert page.count("<h1>") == 1
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', page))
    assert links == {"/", "/docs/style.css", "/openapi.json"}
    for link in links:
        assert (await gateway.call("GET", link)).status == 200
    assert (await gateway.call("GET", "/docs/style.css")).headers["Content-Type"] == "text/css; charset=utf-8"
    assert (await gateway.call("HEAD", "/docs/")).status == 200
    assert (await gateway.call("POST", "/docs", {})).headers["Allow"] == "GET, HEAD"


def specs() -> dict[str, Any]:
    batch = examples.BODIES["easyq.v1.BatchCreateJobsRequest"]
    items = [item["spec"] for _, body in batch.values() for item in body["jobs"]]
    return {
        **{name: value for name, (_, value) in examples.SPECS.items()},
        **{f"batch {number}": spec for number, spec in enumerate(items)},
    }


@pytest.mark.parametrize("name", specs())
async def test_an_example_would_be_accepted(gateway: Client, name: str) -> None:
    told = await gateway.post("/tasks/mail?validateOnly=true", specs()[name])
    assert told["spec"]["image"] == specs()[name]["image"]
    assert gateway.store.submits == []


@pytest.mark.parametrize("path", ["/jobs/stop", "/errors/retry", "/errors/discard"])
async def test_an_example_of_a_selection_changes_nothing(gateway: Client, path: str) -> None:
    document = await gateway.get("/openapi.json")
    shown = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in shown.values():
        assert example["value"]["dryRun"] is True
        assert (await gateway.call("POST", path, example["value"])).status == 200, json.dumps(example)
