"""A small client of the REST API: one call, one answer, nothing interpreted on the way."""

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.support.waiting import PATIENCE

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "EXPIRED", "LOST"})

# What a client meets while services are killed: refused, cut off, or told to come again.
_AWAY = (OSError, http.client.HTTPException)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What stands in `error` of a refusal."""
        found = self.json()["error"]
        assert isinstance(found, dict), found
        return found

    @property
    def fields(self) -> dict[str, str]:
        """Message by wrong field."""
        return {item["field"]: item["message"] for item in self.error["fields"]}


class Rest:
    """`url` is what `easyq up` says after `ready`. May be used by many threads: each call has its own connection."""

    def __init__(self, url: str, *, timeout: float = 90) -> None:
        self.url = url
        self.timeout = timeout
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname, url
        self.host, self.port = parts.hostname, parts.port or 80

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """`body`: bytes go as they are, all else as JSON. Raises OSError or HTTPException where nobody answers."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json"} if data is not None else {}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout or self.timeout)
        with contextlib.closing(connection):
            connection.request(method, path, data, {**all_headers, **(headers or {})})
            answer = connection.getresponse()
            return Answer(status=answer.status, headers=answer.headers, body=answer.read())

    def get(self, path: str, *, timeout: float | None = None) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.call("GET", path, timeout=timeout)
        assert answer.status == 200, (path, answer)
        return answer.json()

    def post(self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON of a POST that must succeed."""
        answer = self.call("POST", path, body, headers=headers)
        assert answer.status == 200, (path, answer)
        return answer.json()

    # Jobs ------------------------------------------------------------------------------------------------------
    def enqueue(self, task: str, spec: Mapping[str, Any], *, key: str = "", **query: str) -> Any:
        """Posts a job; its answer. With `key` it is repeated while nobody answers, which the key makes harmless."""
        path = f"/tasks/{task}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                answer = self.call("POST", path, spec, headers=headers)
            except _AWAY:
                if not key or time.monotonic() > deadline:
                    raise
            else:
                if answer.status == 200:
                    return answer.json()
                assert key, answer
                assert answer.status in {429, 503}, answer
                assert time.monotonic() < deadline, answer
            time.sleep(0.1)

    def job(self, job_id: str) -> Any:
        return self.get(f"/jobs/{job_id}")

    def wait_job(self, job_id: str, timeout: float = 60) -> Any:
        """The job once it has ended. Services that are away meanwhile only cost time."""
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        last: Any = None
        pause = 0.02
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(*_AWAY):
                answer = self.call("GET", f"/jobs/{job_id}", timeout=left + 5)
                assert answer.status in {200, 429, 503, 504}, answer
                last = answer.json()
                if answer.status == 200 and last["state"] in TERMINAL:
                    return last
            time.sleep(pause)
            pause = min(0.2, pause * 1.5)
        raise AssertionError(f"job {job_id} has not ended within {timeout:g} s: {json.dumps(last, indent=1)}")

    def wait_all(self, job_ids: Iterable[str], timeout: float = 120) -> list[Any]:
        """The jobs, in their order, once all have ended."""
        deadline = time.monotonic() + timeout
        return [self.wait_job(job_id, max(1.0, deadline - time.monotonic())) for job_id in job_ids]

    def run(self, task: str, spec: Mapping[str, Any], timeout: float = 60) -> Any:
        """Enqueues and waits; the job."""
        return self.wait_job(self.enqueue(task, spec)["jobId"], timeout)

    def stop(self, job_id: str) -> Any:
        return self.post(f"/jobs/{job_id}/stop")

    def executions(self, job_id: str) -> list[Any]:
        """All executions of a job, oldest first, over as many pages as there are."""
        found: list[Any] = []
        path = f"/jobs/{job_id}/executions?pageSize=1000"
        while path:
            page = self.get(path)
            found += page["items"]
            path = page["nextUrl"]
        return found[::-1]

    # Output ----------------------------------------------------------------------------------------------------
    def output(
        self, job_id: str, stream: str, execution_id: str = "", *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The stored bytes of `stdout` or `stderr`, of one execution or of the job."""
        middle = f"/executions/{execution_id}" if execution_id else ""
        answer = self.call("GET", f"/jobs/{job_id}{middle}/{stream}", headers=headers)
        assert answer.status in {200, 206}, answer
        return answer.body

    def accepting(self) -> bool:
        """Whether a job posted now would be accepted."""
        try:
            answer = self.call("GET", "/status", headers={"Accept": "application/json"}, timeout=5)
        except _AWAY:
            return False
        return answer.status == 200 and bool(answer.json()["accepting"])
