"""Output while it is written: WebSocket, Server-Sent Events by curl, gRPC; over restarts; many readers, slow ones."""

import asyncio
import contextlib
import hashlib
import re
import subprocess
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect

from easyq import AsyncClient
from easyq.v1.log_service_pb2 import LogChunk
from tests.support.farm import Rest, UpFarm, Witness
from tests.support.farm.programs import shell
from tests.support.live import Reader, binary_digest, closed, raw_digest, read_socket, read_sse
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

# Waits for the file `go` in the folder that the test sees too.
WAIT = "until [ -e /witness/go ]; do sleep 0.05; done"
MEGABYTES = 20
READERS = 50
# Seconds, where everything is slow.
LIMIT = 300


def ws(rest: Rest, path: str, **options: Any) -> connect:
    return connect(rest.url.replace("http", "ws") + path, max_size=None, open_timeout=60, ping_timeout=None, **options)


def go(witness: Witness, name: str = "go") -> None:
    (witness.folder / name).touch()


async def test_events_by_curl(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    job = rest.enqueue(task, shell(f"echo one; {WAIT}; printf '\\377\\r\\nno end' >&2", mounts=witness.mounts))
    url = f"{rest.url}/jobs/{job['jobId']}/stream"
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sSN", "-H", "Accept: text/event-stream", url), stdout=asyncio.subprocess.PIPE
    )
    assert curl.stdout is not None
    reader = Reader()
    async with asyncio.timeout(LIMIT):
        await read_sse(curl.stdout, reader, until=4)
        assert rest.job(job["jobId"])["state"] == "RUNNING"
        go(witness)
        await read_sse(curl.stdout, reader)
        assert await curl.wait() == 0
    assert (reader.of(job, "STDOUT"), reader.of(job, "STDERR")) == (b"one\n", b"\xff\r\nno end")
    assert [end["state"] for end in reader.ends] == ["SUCCEEDED"]


async def test_twenty_megabytes_to_fifty_readers(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """As fast as it can; all get all of it, raw or by WebSocket, with slow ones among them."""
    line = "seven" * 12 + "xyz"
    script = f"{WAIT}; yes {line} | head -c {MEGABYTES * 1024 * 1024}"
    job = rest.enqueue(task, shell(script, mounts=witness.mounts))
    whole = hashlib.sha256()
    for _ in range(MEGABYTES):
        whole.update((line + "\n").encode() * (1024 * 1024 // (len(line) + 1)))
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(), connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.timeout(LIMIT * 2),
    ):
        path = f"/jobs/{job['jobId']}"
        socket = f"{rest.url.replace('http', 'ws')}{path}/ws?binary=1"
        raw = [asyncio.create_task(raw_digest(session, f"{rest.url}{path}/stream")) for _ in range(READERS // 2)]
        binary = [
            asyncio.create_task(binary_digest(socket, pause=0.005 if number < 3 else 0))
            for number in range(READERS - len(raw))
        ]
        await eventually(lambda: rest.job(job["jobId"])["state"] == "RUNNING", LIMIT)
        go(witness)
        assert await asyncio.to_thread(rest.wait_job, job["jobId"], LIMIT)
        digests = await asyncio.gather(*raw, *binary)
    assert set(digests) == {whole.hexdigest()}


async def test_the_client_follows(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    job = rest.enqueue(task, shell(f"seq 100; {WAIT}; echo last", mounts=witness.mounts))
    await eventually(lambda: rest.output(job["jobId"], "stdout").endswith(b"100\n"), LIMIT)
    got = b""
    async with AsyncClient(farm.grpc_address) as client, asyncio.timeout(LIMIT):
        async for event in client.logs(job["jobId"], follow=True, tail=2):
            if isinstance(event, LogChunk):
                got += event.data
                if got.endswith(b"100\n"):
                    go(witness)
            else:
                assert (event.state, event.exit_code, event.job_ended) == ("SUCCEEDED", 0, True)
    assert got == b"99\n100\nlast\n"


def test_parts_of_what_is_stored(farm: UpFarm, rest: Rest, task: str) -> None:
    """Odd output: a line of a megabyte, CRLF, bytes that are no text, no end of the last line."""
    script = (
        "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'crlf\\r\\n\\377\\000\\n'; sleep 0.2;"
        " echo error >&2; sleep 0.2; printf 'no end'"
    )
    job = rest.run(task, shell(script))
    path = f"/jobs/{job['jobId']}"
    megabyte = b"x" * 1_000_000 + b"\n"
    odd = b"crlf\r\n\xff\x00\n"
    for lines, output in ((0, b""), (1, b"no end"), (3, odd + b"no end"), (4, megabyte + odd + b"no end")):
        assert rest.call("GET", f"{path}/stdout?tail={lines}").body == output
    assert rest.call("GET", f"{path}/logs?tail=2").body == b"error\nno end"
    assert rest.call("GET", f"{path}/stream?tail=2").body == b"error\nno end"
    assert rest.call("GET", f"{path}/stdout?since=1h").body == b"first\n" + megabyte + odd + b"no end"
    assert rest.call("GET", f"{path}/stdout?since=2100-01-01T00:00:00Z").body == b""
    stamped = rest.call("GET", f"{path}/stdout?timestamps=1").body
    time = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
    assert len(re.findall(time, stamped)) == 5
    assert re.sub(time, b"", stamped) == b"first\n" + megabyte + odd + b"no end"
    saved = rest.call("GET", f"{path}/logs?download=1")
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{job["jobId"]}-1-logs.log"'


def test_a_web_page_of_others_reads_nothing(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("echo secret"))
    for path in ("ws", "stream"):
        answer = rest.call("GET", f"/jobs/{job['jobId']}/{path}", headers={"Origin": "https://evil.example"})
        assert (answer.status, answer.error["reason"]) == (403, "ORIGIN_NOT_ALLOWED")


def test_curl_saves_a_file(farm: UpFarm, rest: Rest, task: str, tmp_path: Any) -> None:
    job = rest.run(task, shell("echo saved"))
    url = f"{rest.url}/jobs/{job['jobId']}/stdout?download=1"
    subprocess.run(["curl", "-sSOJ", url], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / f"{job['jobId']}-1-stdout.log").read_bytes() == b"saved\n"


async def test_a_job_is_followed_over_its_attempts_and_restarts(
    farm: UpFarm, rest: Rest, task: str, witness: Witness
) -> None:
    """Services are killed amid it; the reader goes on where it was, and has every byte of both streams once."""
    wait = "until [ -e /witness/go-$EASYQ_ATTEMPT ]; do sleep 0.05; done"
    script = f"echo $EASYQ_ATTEMPT-one; echo e >&2; {wait}; seq 5000; echo end; exit $((EASYQ_ATTEMPT < 2))"
    spec = {**shell(script, mounts=witness.mounts), "retries": 1, "backoff": {"min": "0s", "max": "0s"}}
    job = rest.enqueue(task, spec)
    reader, path = Reader(), f"/jobs/{job['jobId']}/ws"
    begun = len("1-one\ne\n")
    async with asyncio.timeout(LIMIT):
        await follow(rest, path, reader, until=begun)
        async with ws(rest, f"{path}?from={reader.position}") as socket:
            farm.kill("gateway")
            await closed(socket, reader)
        go(witness, "go-1")
        await follow(rest, path, reader, until=begun + 10_000)
        farm.kill("store")
        go(witness, "go-2")
        await follow(rest, path, reader)
    assert await eventually(rest.accepting, LIMIT)
    assert (await asyncio.to_thread(rest.wait_job, job["jobId"]))["state"] == "SUCCEEDED"
    numbers = "".join(f"{number}\n" for number in range(1, 5001))
    for number, execution in enumerate(rest.executions(job["jobId"]), 1):
        assert reader.output[execution["executionId"], "STDOUT"] == f"{number}-one\n{numbers}end\n".encode()
        assert reader.output[execution["executionId"], "STDERR"] == b"e\n"
    assert [(end["attempt"], end["state"], end["exitCode"]) for end in reader.ends] == [
        (1, "FAILED", 1),
        (2, "SUCCEEDED", 0),
    ]


async def follow(rest: Rest, path: str, reader: Reader, until: int | None = None) -> None:
    """Reads until there are so many bytes, or until the job has ended; connects anew wherever it is cut off."""
    while True:
        after = f"?from={reader.position}" if reader.position else ""
        with contextlib.suppress(OSError, websockets.WebSocketException):
            async with ws(rest, f"{path}{after}") as socket:
                await read_socket(socket, reader, until=until)
        reader.again()
        if sum(map(len, reader.output.values())) >= until if until else reader.ends and reader.ends[-1]["jobEnded"]:
            return
        await asyncio.sleep(0.05)
