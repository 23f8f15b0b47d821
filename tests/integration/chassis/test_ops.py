"""The operations port over a real socket, and metrics pushed to a real OTLP receiver."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from concurrent import futures
from typing import Any

import aiohttp
import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as otlp
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as otlp_grpc
from structlog.testing import capture_logs

from easyq_chassis.errors import Unavailable
from easyq_chassis.metrics import Registry
from easyq_chassis.metrics.export import Exports, resource
from easyq_chassis.metrics.push import TellingExporter
from easyq_chassis.ops.ops import Ops
from easyq_chassis.ops.readiness import Readiness
from easyq_chassis.ops.server import MOST_CONNECTIONS
from easyq_chassis.settings import ServiceSettings
from tests.support.waiting import eventually, free_port


def settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(_cli_parse_args=False, **values)  # type: ignore[call-arg]


def ready() -> Readiness:
    """Of a service that can do its work."""
    it = Readiness()
    it.set(True)
    return it


class Served:
    def __init__(self, ops: Ops, readiness: Readiness, registry: Registry) -> None:
        self.ops, self.readiness, self.registry = ops, readiness, registry

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{self.ops.address}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text(), dict(answer.headers)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    readiness, registry = Readiness(), Registry()
    ops = Ops(settings(ops_listen="127.0.0.1:0"), "store", readiness, instance="one", registry=registry)
    await ops.start()
    yield Served(ops, readiness, registry)
    await ops.stop()


async def test_alive_is_not_ready(served: Served) -> None:
    assert (await served.get("/livez"))[:2] == (200, "alive\n")
    assert (await served.get("/readyz"))[:2] == (503, "it is starting\n")
    served.readiness.set(True)
    assert (await served.get("/readyz"))[:2] == (200, "ready\n")
    served.readiness.set(True, "the rules file is refused")
    assert (await served.get("/readyz"))[:2] == (200, "degraded: the rules file is refused\n")
    served.readiness.set(False, "the database is away")
    assert (await served.get("/readyz"))[:2] == (503, "the database is away\n")
    served.readiness.set(False)
    assert (await served.get("/readyz"))[:2] == (503, "it is not ready\n")
    assert (await served.get("/livez"))[0] == 200


async def test_what_was_asked_makes_it_degraded_until_nothing_is_wrong(served: Served) -> None:
    assert served.readiness.operations == served.ops.address
    wrong = ["", "the keys can't be read"]
    served.readiness.ask(lambda: wrong[0])
    served.readiness.ask(lambda: wrong[1])
    served.readiness.set(True)
    assert (await served.get("/readyz"))[:2] == (200, "degraded: the keys can't be read\n")
    assert "easyq_ready 0.5" in (await served.get("/metrics"))[1].splitlines()
    wrong[0] = "the rules file is refused"
    assert (await served.get("/readyz"))[1] == "degraded: the rules file is refused; the keys can't be read\n"
    wrong[:] = ["", ""]
    assert (await served.get("/readyz"))[:2] == (200, "ready\n")


async def test_metrics_of_the_process(served: Served) -> None:
    served.readiness.set(True)

    async def measured() -> bool:
        return "easyq_event_loop_lag_seconds_count" in (await served.get("/metrics"))[1]

    await eventually(measured)
    status, text, headers = await served.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert headers["Cache-Control"] == "no-store"
    lines = text.splitlines()
    assert "easyq_ready 1.0" in lines
    for name in ("process_cpu_time_seconds_total", "process_memory_usage_bytes", "process_unix_file_descriptor_count"):
        assert any(line.startswith(name) and float(line.rpartition(" ")[2]) > 0 for line in lines), name
    assert 'service_instance_id="one"' in text
    served.readiness.set(True, "something")
    assert "easyq_ready 0.5" in (await served.get("/metrics"))[1]
    form = "application/openmetrics-text; version=1.0.0"
    assert (await served.get("/metrics", Accept=form))[2]["Content-Type"].startswith("application/openmetrics-text")


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "GET", {}, 404),
        ("/metrics", "POST", {}, 405),
        ("/metrics", "HEAD", {}, 200),
        ("/metrics", "GET", {"Origin": "http://evil.example"}, 403),
        ("/metrics", "GET", {"Host": "evil.example"}, 403),
        ("/metrics", "GET", {"Host": "evil.example:80"}, 403),
        ("/metrics", "GET", {"Host": "localhost:10022"}, 200),
        ("/metrics", "GET", {"Host": "[::1]:10022"}, 200),
        ("/metrics", "GET", {"Host": "127.0.0.1"}, 200),
    ],
)
async def test_who_may_ask(served: Served, path: str, method: str, headers: dict[str, str], status: int) -> None:
    assert (await served.get(path, method, **headers))[0] == status


async def test_elsewhere_any_name_will_do() -> None:
    ops = Ops(settings(ops_listen="0.0.0.0:0"), "store", ready(), registry=Registry())
    await ops.start()
    served = Served(ops, Readiness(), Registry())
    assert (await served.get("/livez", Host="store.example:10022"))[0] == 200
    await ops.stop()


async def test_a_usual_port_that_is_taken_is_made_up_for_and_one_that_was_asked_for_is_not() -> None:
    class Usual(ServiceSettings):
        ops_listen: str = "127.0.0.1:1"

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        Usual.model_fields["ops_listen"].default = address
        Usual.model_rebuild(force=True)
        ops = Ops(Usual(_cli_parse_args=False), "store", Readiness(), registry=Registry())  # type: ignore[call-arg]
        await ops.start()
        assert ops.address not in {"", address}
        await ops.stop()
        asked = Ops(settings(ops_listen=address), "store", Readiness(), registry=Registry())
        with pytest.raises(Unavailable, match=address):
            await asked.start()
        await asked.stop()


async def test_connections_are_bounded(served: Served) -> None:
    """Files that they hold are those of the service's own work."""
    host, _, port = served.ops.address.rpartition(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(MOST_CONNECTIONS)]
    # All of them are taken in before the next one.
    held[-1][1].write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await held[-1][0].readline()).startswith(b"HTTP/1.1 200")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    held.pop()[1].close()

    async def answers() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return (await served.get("/livez"))[0] == 200
        return False

    await eventually(answers)
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_one_that_asks_nothing_is_ended(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # What asks something has to be read in that time, too.
    monkeypatch.setattr("easyq_chassis.ops.server.IDLE", 1.5 if sent.endswith(b"\r\n") else 0.3)
    ops = Ops(settings(ops_listen="127.0.0.1:0"), "store", ready(), registry=Registry())
    await ops.start()
    host, _, port = ops.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert (b"alive" in answer) == sent.endswith(b"\r\n")
    writer.close()
    await ops.stop()


async def test_nowhere() -> None:
    ops = Ops(settings(ops_listen=""), "store", Readiness(), registry=Registry())
    await ops.start()
    assert ops.address == ""
    await ops.stop()


# ---------------------------------------------------------------------------------------------------------------- OTLP
class Receiver(otlp_grpc.MetricsServiceServicer):
    """What a collector is: it takes what comes, and may hang."""

    def __init__(self, *, hangs: bool = False, port: int = 0) -> None:
        self.taken: list[Any] = []
        self._hangs = hangs
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        register: Any = otlp_grpc.add_MetricsServiceServicer_to_server
        register(self, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        self.taken.append(request)
        while self._hangs and context.is_active():
            time.sleep(0.05)
        return otlp.ExportMetricsServiceResponse()

    def close(self) -> None:
        self._hangs = False
        self._server.stop(0)

    def metrics(self) -> dict[str, Any]:
        """Of the newest push, by name."""
        (all_of_one,) = self.taken[-1].resource_metrics
        return {metric.name: metric for scope in all_of_one.scope_metrics for metric in scope.metrics}


async def test_a_receiver_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    receiver, registry = Receiver(), Registry()
    registry.counter("easyq.jobs.enqueued", "Jobs.", unit="{job}", labels=("task",)).add(3, "mail")
    registry.histogram("easyq.wait", "Waits.", bounds=(1, 2)).record(1.5)
    ops = Ops(settings(otlp_endpoint=receiver.url, farm="f"), "store", ready(), registry=registry)
    await ops.start()
    await eventually(lambda: bool(receiver.taken))
    pushed = receiver.metrics()
    (counted,) = pushed["easyq.jobs.enqueued"].sum.data_points
    assert pushed["easyq.jobs.enqueued"].sum.is_monotonic
    assert (counted.as_int, [(a.key, a.value.string_value) for a in counted.attributes]) == (3, [("task", "mail")])
    (waited,) = pushed["easyq.wait"].histogram.data_points
    assert (list(waited.bucket_counts), waited.sum, waited.HasField("min")) == ([0, 1, 0], 1.5, False)
    assert {"easyq.build.info", "easyq.ready", "process.memory.usage"} <= pushed.keys()
    about = {a.key: a.value.string_value for a in receiver.taken[-1].resource_metrics[0].resource.attributes}
    assert (about["service.name"], about["service.namespace"], about["easyq.farm"]) == ("easyq-store", "easyq", "f")
    registry.counter("easyq.jobs.enqueued", "Jobs.", unit="{job}", labels=("task",)).add(1, "last")
    await ops.stop()
    last = {p.attributes[0].value.string_value for p in receiver.metrics()["easyq.jobs.enqueued"].sum.data_points}
    assert last == {"mail", "last"}
    receiver.close()


@pytest.mark.parametrize("there", [True, False])
async def test_one_that_hangs_or_is_away_holds_nobody(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    receiver = Receiver(hangs=True)
    url = receiver.url
    if not there:
        receiver.close()
    ops = Ops(
        settings(otlp_endpoint=url, ops_listen="127.0.0.1:0"),
        "store",
        ready(),
        registry=Registry(),
    )
    await ops.start()
    if there:
        await eventually(lambda: bool(receiver.taken))
    served = Served(ops, Readiness(), Registry())
    assert (await served.get("/livez"))[0] == 200
    assert "easyq_ready 1.0" in (await served.get("/metrics"))[1]
    async with asyncio.timeout(30):
        await ops.stop()
    receiver.close()


async def test_one_that_is_away_is_told_as_an_event_of_ours_and_found_again(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    exporter = TellingExporter(f"http://127.0.0.1:{port}", timeout=0.3)
    exports = Exports(Registry(), resource("store", "1"), lambda: exporter)
    with capture_logs() as lines:
        for _ in range(2):
            await asyncio.to_thread(exports.provider.force_flush)
        [away] = lines
        receiver = Receiver(port=port)

        async def came() -> bool:
            await asyncio.to_thread(exports.provider.force_flush)
            return len(lines) > 1

        # Not only taken: the answer has to come in the exporter's little time.
        await eventually(came, 30)
        await exports.close()
    receiver.close()
    assert (away["event"], away["log_level"], away["pushes"]) == ("metrics_not_exported", "warning", 1)
    assert str(port) in away["endpoint"]
    assert (lines[1]["event"], lines[1]["log_level"], lines[1]["pushes"] >= 2) == (
        "metrics_exported_again",
        "info",
        True,
    )
    assert [record for record in caplog.records if "metrics" in record.getMessage()] == []


def test_the_standard_variable_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://from-the-environment:4317")
    assert settings().otlp == "http://from-the-environment:4317"
    assert settings(otlp_endpoint="http://own:4317").otlp == "http://own:4317"
