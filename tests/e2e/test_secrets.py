"""Secrets go in by every way there is, and out by none but to whom they are for: the container, the receivers.

Each way has a canary of its own, so that what fails names it. What a program itself writes is its user's: it is looked
at where EasyQ sends it on by itself, in mails.
"""

import base64
import hashlib
import html
import http.client
import json
import queue
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import websockets.sync.client
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from click.testing import CliRunner

from easyq.cli.group import root
from easyq.v1 import event_service_pb2, event_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc, spec_pb2
from tests.e2e.test_notifications import Hook, hook
from tests.support.canaries import Canaries, Seen
from tests.support.farm import DockerObserver, UpFarm, processes, shell
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.receivers import MailReceiver
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.registry import PASSWORD as REGISTRY_PASSWORD
from tests.support.registry import USER as REGISTRY_USER
from tests.support.registry import Registry, registry_binary
from tests.support.sentry import Sentry, sentry
from tests.support.sse import Stream
from tests.support.waiting import free_port, wait_until

# The mail server of these tests talks in clear on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

# What a program finds in its environment, as a digest: it must be the real values, whatever way the spec came.
DIGEST = 'printf "%s|" "$PASSWORD" "$dbToken" "$DATABASE_URL" "$1" "$2" | sha256sum'


class World:
    """A farm with every kind of secret in its settings, and jobs with every kind in their specs."""

    observer: DockerObserver
    reports: Sentry

    def __init__(self, farm: UpFarm, hook: Hook, mails: MailReceiver, registry: Registry, canaries: Canaries) -> None:
        self.farm, self.hook, self.mails, self.registry, self.canaries = farm, hook, mails, registry, canaries
        self.rest = farm.rest
        self.seen = Seen(canaries)
        self.jobs: dict[str, str] = {}
        self.listener = Listener(farm, self.seen)
        # Of a registry that does not answer.
        self.elsewhere = ""

    def spec(self, **more: Any) -> dict[str, Any]:
        of = self.canaries
        return {
            "image": EXAMPLE_IMAGE,
            "command": ["sh", "-c", f"{DIGEST}; echo it broke >&2; exit 3", "sh", *self.arguments],
            "envs": {"PASSWORD": of["env"], "dbToken": of["env-hump"], "DATABASE_URL": self.database, "PLAIN": "seen"},
            "metadata": {
                "owner": "ann",
                "apiKey": of["metadata"],
                "login": {"user": "ann", "password": {"now": of["metadata-below"], "old": [of["metadata-list"]]}},
                "links": [f"https://ann:{of['metadata-url']}@links.test/"],
            },
            "webhooks": {
                "finishes": [
                    {
                        "url": self.hook.url.replace("//", f"//bob:{of['hook-url']}@")
                        + f"/{of['hook-path']}?token={of['hook-parameter']}&a=b",
                        "headers": {"X-Api-Key": of["hook-header"]},
                        "secret": of["hook-secret"],
                    },
                    {"url": self.hook.url, "headers": {"Authorization": f"Bearer {of['hook-authorization']}"}},
                    {"url": self.hook.url, "secretName": "ours"},
                ]
            },
            "notify": {"finishes": ["ops@example.org"]},
            **more,
        }

    @property
    def database(self) -> str:
        return f"postgres://ann:{self.canaries['env-url']}@db.test/x"

    @property
    def arguments(self) -> list[str]:
        of = self.canaries
        return [f"redis://:{of['command-url']}@cache.test/0", f"https://h.test/?access_token={of['command-parameter']}"]

    @property
    def digest(self) -> str:
        of = self.canaries
        values = [of["env"], of["env-hump"], self.database, *self.arguments]
        return hashlib.sha256("".join(f"{value}|" for value in values).encode()).hexdigest()

    def told(self, number: int) -> list[tuple[str, dict[str, str], bytes]]:
        """What the receiver has got, once it is so much."""
        wait_until(lambda: len(self.hook.calls) >= number, 60, message=f"{number} calls of the webhook")
        return list(self.hook.got)

    def ran_with_real_values(self, job_id: str) -> None:
        assert self.rest.wait_job(job_id)["state"] == "FAILED"
        assert self.rest.call("GET", f"/jobs/{job_id}/stdout").body.decode().split()[0] == self.digest
        wait_until(lambda: all(one["state"] == "DELIVERED" for one in self.deliveries(job_id)), 60)

    def deliveries(self, job_id: str) -> list[Any]:
        """Those that the spec asks for."""
        found: list[Any] = self.rest.get(f"/jobs/{job_id}/deliveries")["items"]
        assert len(found) == 5, found
        return [one for one in found if one["channel"] != "REPORT"]


@contextmanager
def mail_server(*, login: tuple[str, str]) -> Iterator[MailReceiver]:
    """One that asks for a name and a password."""

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        right = (data.login.decode(), data.password.decode()) == login
        return AuthResult(success=right, handled=right)

    receiver = MailReceiver(port=free_port())
    controller = Controller(
        receiver,
        hostname="127.0.0.1",
        port=receiver.port,
        authenticator=authenticate,
        auth_required=True,
        auth_require_tls=False,
    )
    controller.start()
    yield receiver
    controller.stop()


class LockedRedis(RedisServer):
    """One that asks for a password."""

    def __init__(self, password: str) -> None:
        super().__init__(redis_binary(), arguments=("--requirepass", password))
        self._password = password

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"


class Listener:
    """All events of the farm, as they come over SSE and gRPC."""

    def __init__(self, farm: UpFarm, seen: Seen) -> None:
        self._seen = seen
        self.told: queue.Queue[str] = queue.Queue()
        self._channel = grpc.insecure_channel(farm.grpc_address)
        self._stream = Stream(farm.rest.url, "/events", timeout=600)
        stub = event_service_pb2_grpc.EventServiceStub(self._channel)
        self._watch = stub.Watch(event_service_pb2.WatchRequest())
        for follow in (self._sse, self._grpc):
            threading.Thread(target=follow, daemon=True).start()

    def _sse(self) -> None:
        try:
            for told in self._stream:
                self._seen.add("events by SSE", json.dumps(told.data))
                self.told.put((told.data.get("error", {}) and told.data["error"]["message"]) or "")
        except (OSError, http.client.HTTPException):
            pass  # the gateway has ended

    def _grpc(self) -> None:
        try:
            for response in self._watch:
                self._seen.add("events by gRPC", str(response))
        except grpc.RpcError:
            pass

    def close(self) -> None:
        self._watch.cancel()
        self._channel.close()


@pytest.fixture(scope="module")
def world(hosts: list[DockerHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("secrets")
    of = Canaries()
    with ExitStack() as stack:
        redis = stack.enter_context(LockedRedis(of["redis-url"]))
        receiver = stack.enter_context(hook())
        receiver.works = True
        mails = stack.enter_context(mail_server(login=("easyq", of["smtp-password"])))
        registry = stack.enter_context(Registry(registry_binary(), private=True))
        keys, config = folder / "keys.toml", folder / "easyq.toml"
        keys.write_text(f'ours = "{of["signing-key"]}"\n', encoding="ascii")
        reports = stack.enter_context(sentry(of["sentry-key"]))
        config.write_text(
            f'redis = "{redis.url}"\nlog-level = "debug"\nsentry-dsn = "{reports.dsn}"\nreport-failures = "all"\n',
            encoding="ascii",
        )
        auths = {
            registry.address: f"{REGISTRY_USER}:{of.add('registry', REGISTRY_PASSWORD)}",
            f"127.0.0.1:{free_port()}": f"ann:{of['registry-elsewhere']}",
        }
        env = {
            "EASYQ_SCHEDULER_SMTP_HOST": "127.0.0.1",
            "EASYQ_SCHEDULER_SMTP_PORT": str(mails.port),
            "EASYQ_SCHEDULER_SMTP_TLS": "none",
            "EASYQ_SCHEDULER_SMTP_USER": "easyq",
            "EASYQ_SCHEDULER_SMTP_PASSWORD": of["smtp-password"],
            "EASYQ_SCHEDULER_SMTP_FROM": "easyq@jobs.test",
            "EASYQ_SCHEDULER_WEBHOOK_SECRETS": str(keys),
            "EASYQ_RUNNER_REGISTRY_AUTHS": json.dumps(auths),
        }
        farm = stack.enter_context(UpFarm([hosts[0]], slots=4, arguments=["--config", str(config)], env=env))
        made = World(farm, receiver, mails, registry, of)
        made.elsewhere = list(auths)[1]
        made.reports = reports
        stack.callback(made.listener.close)
        with DockerObserver(hosts[:1]) as made.observer:
            yield made


# ------------------------------------------------------------------------------------------------ jobs, and receivers
def test_programs_and_receivers_get_the_real_values(world: World) -> None:
    of, rest = world.canaries, world.rest
    answer = rest.call("POST", "/tasks/quiet", world.spec(), headers={"Idempotency-Key": "one"})
    world.seen.add("the answer to a new job", answer.body)
    job_id = world.jobs["quiet"] = answer.json()["jobId"]
    world.ran_with_real_values(job_id)
    check_calls(world, world.told(3))
    wait_until(lambda: world.mails.raw, 60)
    for raw in world.mails.raw:
        world.seen.add("a mail", raw)
    for event in world.observer.events():
        # The engine's own record of what runs: `docker ps` shows it to whoever may ask it.
        world.seen.add("labels of a container", json.dumps(event.labels))

    # What a program writes is its user's, but in mails.
    before = len(world.mails.raw)
    envs, notify = {"PASSWORD": of["echoed"]}, {"finishes": ["ops@example.org"]}
    job_id = rest.enqueue("loud", shell('echo "it is $PASSWORD"; exit 3', envs=envs, notify=notify))["jobId"]
    rest.wait_job(job_id)
    assert of["echoed"] in rest.call("GET", f"/jobs/{job_id}/stdout").body.decode()
    wait_until(lambda: len(world.mails.raw) > before, 60)
    assert b"it is [redacted]" in world.mails.raw[-1]
    for path in ("", "/executions", "/explain", "/deliveries"):
        world.seen.add(f"a job's {path}", rest.call("GET", f"/jobs/{job_id}{path}").body)
    world.seen.add("a mail of output", world.mails.raw[-1])
    wait_until(lambda: world.reports.of(job=job_id), 60)
    (report,) = world.reports.of(job=job_id)
    assert "it is [redacted]" in report["extra"]["stdout"]
    assert rest.call("DELETE", f"/jobs/{job_id}").status == 200
    world.seen.check()


def check_calls(world: World, calls: list[tuple[str, dict[str, str], bytes]]) -> None:
    of = world.canaries
    secret_place = f"/hook/{of['hook-path']}?token={of['hook-parameter']}&a=b"
    (given,) = [headers for path, headers, _ in calls if path == secret_place]
    assert given["X-Api-Key"] == of["hook-header"]
    assert given["Authorization"].startswith("Basic ")
    assert base64.b64decode(given["Authorization"][6:]).decode() == f"bob:{of['hook-url']}"
    others = [headers for path, headers, _ in calls if path == "/hook"]
    assert sorted(headers.get("Authorization", "") for headers in others) == ["", f"Bearer {of['hook-authorization']}"]
    for _, _, body in calls:
        world.seen.add("what webhooks are told", body)


def test_errors_of_the_engine_and_the_registry(world: World) -> None:
    """They repeat commands and addresses."""
    rest, of = world.rest, world.canaries
    command = [f"postgres://ann:{of['error-url']}@db.test/x"]
    broken = rest.enqueue("broken", {"image": EXAMPLE_IMAGE, "command": command})["jobId"]
    missing = rest.enqueue("missing", {"image": f"{world.registry.address}/team/none:1"})["jobId"]
    elsewhere = rest.enqueue("elsewhere", {"image": f"{world.elsewhere}/team/none:1", "infraRetries": 0})["jobId"]
    for name, job_id in (("broken", broken), ("missing", missing), ("elsewhere", elsewhere)):
        job = rest.wait_job(job_id)
        assert job["state"] == "FAILED"
        world.jobs[name] = job_id
    message = rest.job(broken)["executions"][0]["error"]["message"]
    assert "postgres://ann:[redacted]@db.test/x" in message, message
    told: list[str] = []
    while not any("[redacted]" in one for one in told):
        try:
            told.append(world.listener.told.get(timeout=30))
        except queue.Empty:
            pytest.fail(f"no event tells of it: {told}")
    world.seen.check()


# ----------------------------------------------------------------------------------------------------------- reading
def test_reading_by_rest(world: World) -> None:
    """Every GET of the API's document, and output in all its forms."""
    rest, job_id = world.rest, world.jobs["quiet"]
    job = rest.job(job_id)
    values = {
        "taskId": job["taskId"],
        "jobId": job_id,
        "executionId": job["executions"][0]["executionId"],
        "name": "default",
        "agentId": rest.get("/agents")["items"][0]["agentId"],
        "deliveryId": world.deliveries(job_id)[0]["deliveryId"],
    }
    paths = [path for path, verbs in rest.get("/openapi.json")["paths"].items() if "get" in verbs]
    assert len(paths) > 40
    for path in paths:
        if path.endswith(("/ws", "/events")):
            continue
        filled = re.sub(r"\{(\w+)\}", lambda name: urllib.parse.quote(values[name[1]]), path)
        query = "?query=quiet" if path == "/search" else ""
        answer = rest.call("GET", filled + query)
        # One that runs once has no schedule.
        assert answer.status == (409 if path.endswith("/schedule") else 200), (path, answer)
        world.seen.add(path, answer.body)
    for other in ("broken", "missing", "elsewhere"):
        for path in ("", "/executions", "/explain"):
            world.seen.add(f"of {other} {path}", rest.call("GET", f"/jobs/{world.jobs[other]}{path}").body)
    for path in ("/events", f"/jobs/{job_id}/stream"):
        with Stream(rest.url, f"/jobs/{job_id}/events") as stream:
            world.seen.add(path, json.dumps(next(iter(stream)).data))
    address = rest.url.replace("http", "ws") + f"/jobs/{job_id}/ws"
    with websockets.sync.client.connect(address) as socket:
        for message in socket:
            world.seen.add("/ws", message)
    shown = rest.job(job_id)["spec"]
    assert shown["envs"]["PLAIN"] == "seen"
    assert shown["metadata"] == {
        "apiKey": "[redacted]",
        "links": ["https://ann:[redacted]@links.test/"],
        "login": {"password": {"now": "[redacted]", "old": ["[redacted]"]}, "user": "ann"},
        "owner": "ann",
    }
    assert shown["command"][4:] == ["redis://:[redacted]@cache.test/0", "https://h.test/?access_token=[redacted]"]
    world.seen.check()


def test_reading_by_grpc(world: World) -> None:
    with grpc.insecure_channel(world.farm.grpc_address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        world.seen.add("GetJob", str(stub.GetJob(job_service_pb2.GetJobRequest(job_id=world.jobs["quiet"]))))
        world.seen.add("ListJobs", str(stub.ListJobs(job_service_pb2.ListJobsRequest())))
        spec = spec_pb2.JobSpec(image="b", envs={"PASSWORD": world.canaries["grpc"]})
        spec.command.append(f"x://u:{world.canaries['grpc-url']}@h")
        asked = job_service_pb2.CreateJobRequest(task_id="a", spec=spec, validate_only=True)
        world.seen.add("CreateJob, validated", str(stub.CreateJob(asked)))
        asked.spec.timeout.seconds = -1
        with pytest.raises(grpc.RpcError) as refused:
            stub.CreateJob(asked)
        world.seen.add("CreateJob, refused", f"{refused.value} {refused.value.trailing_metadata()}")
    world.seen.check()


def test_pages(world: World) -> None:
    """All that links lead to, from the overview on."""
    rest, job_id = world.rest, world.jobs["quiet"]
    todo = ["/", f"/admin/jobs/{job_id}/again", "/admin/search?query=quiet", "/admin/jobs?metadata=owner%3Dann"]
    seen: set[str] = set()
    while todo and len(seen) < 120:
        path = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = rest.call("GET", path, headers={"Accept": "text/html"})
        world.seen.add(path, answer.body)
        if answer.headers.get_content_type() == "text/html":
            hrefs = re.findall(r'href="(/[^"]*)"', answer.body.decode())
            links = [html.unescape(href).partition("#")[0] for href in hrefs]
            todo += [link for link in links if link.startswith(("/admin/", "/status")) and link not in seen]
    assert {"/admin/tasks", "/admin/errors", "/status", f"/admin/jobs/{job_id}"} <= seen
    world.seen.check()


def test_command_line(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    easyq = CommandLine(world, capfd)
    of, job_id = world.canaries, world.jobs["quiet"]
    file = tmp_path / "jobs.yaml"

    def write(priority: int, **more: Any) -> None:
        spec = world.spec(cron="0 3 1 1 *", priority=priority, **more)
        file.write_text(json.dumps({"set": "all", "jobs": [{"taskId": "files", "jobId": "nightly", "spec": spec}]}))

    write(1)
    assert "created" in easyq("apply", "-f", str(file))
    assert "unchanged" in easyq("apply", "-f", str(file), "--dry-run")
    write(2, envs={"PASSWORD": of["new"], "URL": f"x://u:{of['new-url']}@h"}, metadata={"token": of["new-metadata"]})
    assert "priority" in easyq("apply", "-f", str(file), "--dry-run")
    easyq("apply", "-f", str(file), "--dry-run", "--json")
    assert "changed" in easyq("apply", "-f", str(file))
    for arguments in (
        ("get", job_id),
        ("get", job_id, "-o", "yaml"),
        ("ps", "-a", "-o", "wide"),
        ("ps", "-a", "--json"),
        ("errors", "--json"),
        ("explain", job_id),
        ("logs", job_id),
        ("doctor",),
    ):
        easyq(*arguments)
    easyq("submit", EXAMPLE_IMAGE, "--task", "cli", "-e", f"PASSWORD={of['cli']}", "--", "true")
    world.seen.check()


class CommandLine:
    """`easyq …` in this process, which is a tenth of the work."""

    def __init__(self, world: World, capture: pytest.CaptureFixture[str]) -> None:
        self._world = world
        self._capture = capture

    def __call__(self, *arguments: str) -> str:
        self._capture.readouterr()
        environment = {"EASYQ_SERVER": self._world.farm.grpc_address}
        outcome = CliRunner().invoke(root, list(arguments), prog_name="easyq", env=environment)
        told = self._capture.readouterr()
        text = told.out + told.err + outcome.output
        # What is wrong on this machine is no business of this test.
        assert outcome.exit_code == 0 or arguments == ("doctor",), (arguments, text)
        assert text, arguments
        self._world.seen.add(f"easyq {' '.join(arguments)}", text)
        return text


# ---------------------------------------------------------------------------------------------------------- refusals
def test_refusals_repeat_no_value(world: World) -> None:
    of, rest = world.canaries, world.rest

    def refused(
        way: str, spec: Any, *, status: int = 400, path: str = "/tasks/bad", verb: str = "POST", key: str = ""
    ) -> Any:
        answer = rest.call(verb, path, spec, headers={"Idempotency-Key": key} if key else {})
        assert answer.status == status, (way, answer)
        world.seen.add(way, answer.body + str(answer.headers).encode())
        return answer.json()["error"]

    def job(**more: Any) -> dict[str, Any]:
        return {"image": "b", **more}

    def hooked(**hook: Any) -> dict[str, Any]:
        return job(webhooks={"fails": [{"url": "https://h.test/", **hook}]})

    refused("an object as a variable", job(envs={"PASSWORD": {"a": of["bad-object"]}}))
    refused("a list as a variable", job(envs={"PASSWORD": [of["bad-list"]]}))
    refused("a variable with a NUL", job(envs={"PASSWORD": f"{of['bad-nul']}\0"}))
    refused("a variable that is too long", job(envs={"PASSWORD": of["bad-long"] * 9000}))
    refused("a variable of ours", job(envs={"EASYQ_TOKEN": of["bad-ours"]}))
    refused("free data that is none", job(metadata=of["bad-metadata"]))
    refused("a field that is none", job(password=of["bad-field"]))
    refused("a field of a receiver that is none", hooked(token=of["bad-hook-field"]))
    refused("a value in a wrong place", job(timeout=of["bad-timeout"], retries=of["bad-retries"], pull=of["bad-enum"]))
    refused("a password in an image", job(image=f"https://u:{of['bad-image']}@h/x y"))
    refused("a receiver's scheme", hooked(url=f"ftp://u:{of['bad-hook-url']}@h/"))
    refused("a receiver's port", hooked(url=f"https://u:{of['bad-hook-port']}@h:99999/"))
    refused("a header of ours", hooked(headers={"Host": of["bad-header"]}))
    refused("a header with a line end", hooked(headers={"X-Key": f"{of['bad-header-value']}\n"}))
    refused("a signing key that is too long", hooked(secret=of["bad-secret"] * 20))
    refused(
        "two authorizations", hooked(url=f"https://u:{of['bad-two']}@h/", headers={"Authorization": of["bad-both"]})
    )
    refused("no JSON", f'{{"envs": {{"PASSWORD": "{of["bad-json"]}", '.encode())
    refused("no object", json.dumps([of["bad-body"]]).encode())
    refused("another parameter", None, path=f"/jobs?token={of['bad-parameter']}", verb="GET")
    refused("a parameter's value", None, path=f"/jobs?pageToken={of['bad-page']}", verb="GET")
    refused("another path", None, status=404, path=f"/nothing?token={of['bad-path']}", verb="GET")
    items = [
        {"taskId": "bad", "spec": 1, "token": of["bad-item"]},
        {"taskId": "bad", "spec": job(envs={"KEY": [of["bad-in-batch"]]})},
    ]
    answer = rest.call("POST", "/batch", {"jobs": items})
    world.seen.add("items of a batch", answer.body)
    assert [one["error"]["code"] for one in answer.json()["results"]] == ["INVALID_ARGUMENT"] * 2
    fields = refused("a secret in a label", job(labels={"api-token": of["label"]}))["fields"]
    assert [one["field"] for one in fields] == ['spec.labels["api-token"]']
    refused("a URL's password in a label", job(labels={"link": f"https://u:{of['label-url']}@h/"}))

    # The same key with other values: which fields, and no more.
    other = world.spec(
        envs={**world.spec()["envs"], "PASSWORD": of["conflict"]}, metadata={"apiKey": of["conflict-data"]}
    )
    error = refused("an idempotency conflict", other, status=409, path="/tasks/quiet", key="one")
    assert 'envs["PASSWORD"]' in error["message"]
    again = rest.call("POST", "/tasks/quiet", world.spec(), headers={"Idempotency-Key": "one"})
    assert again.json()["replayed"] is True
    path = f"/tasks/quiet/jobs/{world.jobs['quiet']}?revision=9"
    refused("a revision conflict", world.spec(), status=409, path=path, verb="PUT")
    marked = refused("marks for nothing", job(command=["x://u:[redacted]@h"], metadata={"key": "[redacted]"}))
    assert sorted(one["field"].rpartition("spec.")[2] for one in marked["fields"]) == ["command[0]", "metadata.key"]
    world.seen.check()


# -------------------------------------------------------------------------------------------------------- round trips
def test_what_was_shown_is_kept_by_put(world: World) -> None:
    rest, job_id = world.rest, world.jobs["quiet"]
    before = len(world.hook.calls)
    shown = rest.job(job_id)["spec"]
    same = rest.call("PUT", f"/tasks/quiet/jobs/{job_id}", shown)
    assert (same.status, same.json()["job"]["revision"]) == (200, 1)
    answer = rest.call("PUT", f"/tasks/quiet/jobs/{job_id}", {**shown, "priority": 5})
    assert (answer.status, answer.json()["job"]["revision"]) == (200, 2), answer
    world.seen.add("the answer to PUT", answer.body)
    wait_until(lambda: len(rest.job(job_id)["executions"]) == 2, 60)
    rest.wait_job(job_id)
    assert rest.call("GET", f"/jobs/{job_id}/stdout").body.decode().split()[0] == world.digest
    check_calls(world, world.told(before + 3)[before:])
    world.seen.check()


def test_what_was_shown_is_kept_by_running_again(world: World) -> None:
    rest, job_id = world.rest, world.jobs["quiet"]
    before = len(world.hook.calls)
    page = rest.call("GET", f"/admin/jobs/{job_id}/again", headers={"Accept": "text/html"}).body.decode()
    form = {
        name: html.unescape(value) for name, value in re.findall(r'<textarea [^>]*name="(\w+)"[^>]*>([^<]*)<', page)
    }
    form |= {
        name: html.unescape(value) for name, value in re.findall(r'<input [^>]*name="(\w+)" value="([^"]*)"', page)
    }
    assert {"image", "command", "envs", "rest"} <= form.keys()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": rest.url}
    body = urllib.parse.urlencode({**form, "retries": "0"}).encode()
    answer = rest.call("POST", f"/admin/jobs/{job_id}/again", body, headers=headers)
    assert answer.status == 303, answer.body.decode()
    copy = answer.headers["Location"].split("/")[3].partition("?")[0]
    assert copy != job_id
    world.ran_with_real_values(copy)
    check_calls(world, world.told(before + 3)[before:])
    world.seen.check()


# ---------------------------------------------------------------------------------------------- what stays behind
def test_logs_files_and_processes(world: World) -> None:
    """At the end of it all: what services wrote, at their most talkative, what lies about, and what `ps` shows."""
    farm = world.farm
    for pid, line in processes.marked(farm.folder).items():
        world.seen.add(f"the command line of {pid} ({line[:60]})", line)
    assert farm.stop() == 0
    world.seen.add("what `easyq up` says", farm.stdout)
    assert len(world.reports.events) > 4
    world.seen.add("Sentry", world.reports.texts())
    log = farm.log_path.read_bytes()
    assert b'"level": "debug"' in log or b"debug" in log
    world.seen.add("the log", log)
    for path in farm.data.rglob("*"):
        if path.is_file() and not path.name.startswith("easyq.db"):
            world.seen.add(str(path.relative_to(farm.data)), path.read_bytes())
    world.seen.check()
