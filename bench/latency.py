"""From a POST to an idle farm until the create request arrives at the Docker Engine, and the way in between."""

import contextlib
import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.relay import Passed, Recorder, Relays
from bench.report import Figure, Goal, Step
from tests.support.farm import Rest, SplitFarm, UpFarm
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

POSTS = 30
BODY = json.dumps({"image": EXAMPLE_IMAGE, "command": "true"})
CREATE = "agent -> Docker Engine: create"
CREATE_CALL = b"/containers/create"


@dataclass(frozen=True, kw_only=True)
class ProxiedHost:
    """A Docker Engine behind a relay."""

    label: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Post:
    """One POST, in seconds of time.monotonic()."""

    sent: float
    answered: float
    passed: Sequence[Passed]

    def first(self, name: str, forward: bool, after: float) -> float | None:
        times = [one.at for one in self.passed if one.name == name and one.forward is forward and one.at >= after]
        return min(times, default=None)


def measure(host: DockerHost, folder: Path, runs: int) -> list[Figure]:
    with Relays() as relays:
        recorder, proxied = _proxied(relays, host, folder)
        with UpFarm([proxied], slots=4) as farm, _client(farm.rest) as send:
            _posts(farm.rest, send, recorder, 5)
            rounds = [_posts(farm.rest, send, recorder, POSTS) for _ in range(runs)]
    return [
        Figure(
            name="idle POST until its create request reaches the Docker Engine, p50",
            unit="ms",
            runs=[_p50(_to_create(post) for post in posts) for posts in rounds],
            goal=Goal(at_most=12),
            details={"p95": round(_p95(_to_create(post) for posts in rounds for post in posts), 2)},
        ),
        Figure(
            name="  of that, until the POST is answered (job on disk), p50",
            unit="ms",
            runs=[_p50((post.answered - post.sent) * 1000 for post in posts) for posts in rounds],
        ),
    ]


# Who speaks to whom, and whether that is the call (True) or its answer, in the order of the way.
_WAY = [
    ("gateway -> store: Submit", "gateway-store", True),
    ("store -> gateway: on disk", "gateway-store", False),
    ("gateway -> dispatcher: it is ready", "gateway-dispatcher", True),
    ("dispatcher -> Redis: take", "dispatcher-redis", True),
    ("Redis -> dispatcher: taken", "dispatcher-redis", False),
    ("dispatcher -> store: Assign", "dispatcher-store", True),
    ("store -> dispatcher: assigned, on disk", "dispatcher-store", False),
    ("dispatcher -> agent: Run", "runner-dispatcher", False),
    (CREATE, "docker", True),
]


def way(host: DockerHost, redis: RedisServer, folder: Path) -> list[Step]:
    """Where the milliseconds of a POST go: services as separate commands, a relay on each link between them."""
    with Relays() as relays:
        recorder, proxied = _proxied(relays, host, folder)

        def route(caller: str, callee: str, address: str) -> str:
            return relays.add(address, recorder.messages_of(f"{caller}-{callee}"))

        redis_at = relays.add(f"127.0.0.1:{redis.port}", recorder.bytes_of("dispatcher-redis"))
        farm = SplitFarm(
            [proxied],
            redis=f"redis://{redis_at}/0",
            store={"database": f"sqlite:///{folder}/store.db"},
            copies=1,
            route=route,
        )
        with farm, _client(farm.rest) as send:
            _posts(farm.rest, send, recorder, 5)
            posts = _posts(farm.rest, send, recorder, POSTS * 2)
    steps = [Step(what="POST sent", at=0.0)]
    steps += [Step(what=what, at=at) for what, at in _medians(posts)]
    answered = Step(what="gateway -> client: the answer", at=_p50((p.answered - p.sent) * 1000 for p in posts))
    return sorted([*steps, answered], key=lambda step: step.at)


def _medians(posts: Sequence[Post]) -> Iterator[tuple[str, float]]:
    found: dict[str, list[float]] = {what: [] for what, _, _ in _WAY}
    for post in posts:
        after = post.sent
        for what, name, forward in _WAY:
            at = post.first(name, forward, after)
            if at is None:
                break  # another way than planned (a poll found it, say): it tells nothing of the rest
            found[what].append((at - post.sent) * 1000)
            after = at
    for what, times in found.items():
        if len(times) > len(posts) // 2:
            yield what, statistics.median(times)


def _proxied(relays: Relays, host: DockerHost, folder: Path) -> tuple[Recorder, ProxiedHost]:
    recorder = Recorder()
    socket = folder / "docker.sock"
    socket.unlink(missing_ok=True)
    relays.add(f"unix:{host.socket}", recorder.bytes_of("docker", CREATE_CALL), socket)
    return recorder, ProxiedHost(label="proxied", url=f"unix://{socket}")


@contextlib.contextmanager
def _client(rest: Rest) -> Iterator[Callable[[], Any]]:
    """Sends the POST on a connection that is kept; its answer."""
    connection = http.client.HTTPConnection(rest.host, rest.port, timeout=30)

    def send() -> Any:
        connection.request("POST", "/tasks/idle", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)

    with contextlib.closing(connection):
        yield send


def _posts(rest: Rest, send: Callable[[], Any], recorder: Recorder, count: int) -> list[Post]:
    """One after the other, each once the farm is idle again."""
    posts = []
    for _ in range(count):
        recorder.passed.clear()
        sent = time.monotonic()
        answer = send()
        answered = time.monotonic()
        wait_until(lambda: any(one.name == "docker" for one in recorder.passed), 20, interval=0.005)
        passed = list(recorder.passed)
        assert rest.wait_job(answer["jobId"])["state"] == "SUCCEEDED"
        posts.append(Post(sent=sent, answered=answered, passed=passed))
        time.sleep(0.15)
    return posts


def _to_create(post: Post) -> float:
    at = post.first("docker", True, post.sent)
    assert at is not None
    return (at - post.sent) * 1000


def _p50(values: Iterator[float]) -> float:
    return statistics.median(list(values))


def _p95(values: Iterator[float]) -> float:
    return statistics.quantiles(list(values), n=20)[-1]
