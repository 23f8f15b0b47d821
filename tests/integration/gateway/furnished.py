"""A farm with something of everything, for the pages: jobs in each state, hosts, breakers, figures, and bad words."""

from typing import Any

from easyq.v1 import farm_service_pb2, job_pb2, stats_pb2
from easyq.v1.job_pb2 import Execution
from easyq.v1.log_service_pb2 import LogStream
from easyq.v1.notification_service_pb2 import Delivery
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from tests.integration.gateway.conftest import Client

#: What a page must show as it is: markup, an override of direction, an escape sequence, and a name without an end.
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\" \u202egnp.exe \x1b[31m"
#: Where secrets are, under names that say so, and in URLs.
CANARY = "canary-in-a-coal-mine"
NOW = 1_900_000_000
_MINUTES = 60

#: Pages without anything in their path.
PLACES = (
    "/",
    "/?span=day",
    "/status",
    "/admin/tasks",
    "/admin/jobs",
    "/admin/queues",
    "/admin/hosts",
    "/admin/schedules",
    "/admin/errors",
    "/admin/errors/retry",
    "/admin/errors/discard",
    "/admin/search",
    "/admin/search?query=mail",
)


class Furnished:
    """The ids of what there is."""

    def __init__(self, gateway: Client, now: int) -> None:
        self.gateway = gateway
        self.now = now
        self.jobs: dict[str, str] = {}
        self.executions: dict[str, str] = {}

    def pages(self) -> list[str]:
        """Every page, that of each job too."""
        of_jobs = [f"/admin/jobs/{job_id}" for job_id in self.jobs.values()]
        return [
            *PLACES,
            "/admin/tasks/mail",
            "/admin/hosts/host-1",
            "/admin/hosts/gone",
            *of_jobs,
            f"{of_jobs[0]}/again",
        ]

    async def job(self, name: str, task: str, **spec: Any) -> str:
        answer = await self.gateway.enqueue(task, **spec)
        self.jobs[name], self.executions[name] = answer["jobId"], answer["executionId"]
        return str(answer["executionId"])

    async def move(self, name: str, state: Execution.State.ValueType, **fields: Any) -> None:
        store = self.gateway.store
        execution = store.executions[self.executions[name]]
        execution.queued_at.FromSeconds(self.now)
        if state not in {Execution.QUEUED, Execution.SCHEDULED}:
            execution.started_at.FromSeconds(self.now + 3)
            execution.host = "host-1"
        if state > Execution.RUNNING:
            execution.finished_at.FromSeconds(self.now + 10 + len(self.jobs))
        await store.move(self.executions[name], state, **fields)


async def furnish(gateway: Client, now: int = NOW) -> Furnished:
    """Puts it all there. `now`: when it happened, in seconds."""
    farm = Furnished(gateway, now)
    gateway.store.set_clock(now)
    secret = {"API_TOKEN": CANARY, "DB": f"postgres://app:{CANARY}@db/x", "REGION": "eu"}
    await farm.job("running", "mail", command=["sh", "-c", "echo 'a b'"], envs=secret, metadata={"apiKey": CANARY})
    await farm.move("running", Execution.RUNNING)
    await farm.job("queued", "mail")
    await farm.job("succeeded", "mail", labels={"team": "finance"})
    await farm.move("succeeded", Execution.SUCCEEDED, exit_code=0)
    receiver = {"url": f"https://bob:{CANARY}@hook.test/x?token={CANARY}", "secret": CANARY}
    webhooks = {"fails": [receiver]}
    await farm.job("failed", "mail", command=f"curl https://me:{CANARY}@host/", webhooks=webhooks)
    failure = job_pb2.Failure(reason=job_pb2.Failure.NONZERO_EXIT, message="exit code 3")
    await farm.move("failed", Execution.FAILED, exit_code=3)
    for record in (gateway.store.jobs[farm.jobs["failed"]], gateway.store.executions[farm.executions["failed"]]):
        record.error.CopyFrom(failure)
    await farm.job("timed_out", "images")
    await farm.move("timed_out", Execution.TIMED_OUT)
    await farm.job(
        "evil", "images", command=[EVIL, "x" * 5000], envs={"EVIL": EVIL}, labels={"l": EVIL}, metadata={"m": EVIL}
    )
    await farm.move("evil", Execution.SUCCEEDED, exit_code=0)
    await farm.job("later", "images", startIn="3h")
    cron = await gateway.call("PUT", "/tasks/clock/jobs/every-hour", {"image": "busybox:1", "cron": "@hourly"})
    assert cron.status == 200, cron
    farm.jobs["cron"] = "every-hour"
    gateway.store.plan("every-hour", (now + 3600) * 1000)
    await _write(gateway, farm)
    _deliveries(farm)
    _of_hosts(gateway)
    _figures(gateway)
    return farm


async def _write(gateway: Client, farm: Furnished) -> None:
    colours = b"\x1b[32mgreen\x1b[0m \x1b[1;31mred\x1b[0m plain\n"
    await gateway.store.write(farm.executions["running"], LogStream.STDOUT, colours * 3)
    await gateway.store.write(farm.executions["running"], LogStream.STDERR, b"to stderr\n")
    bad = EVIL.encode() + b"\n\xff\xfe\x00bytes\n" + b"y" * 1_000_000 + b"\nthe end\n"
    await gateway.store.write(farm.executions["evil"], LogStream.STDOUT, bad)


def _deliveries(farm: Furnished) -> None:
    """One that was taken, one that is to be tried again, one that was given up, of the job that failed."""
    hook = {"channel": Delivery.Channel.WEBHOOK, "event": Delivery.Event.FAILS, "outcome": job_pb2.Job.FAILED}
    put, job = farm.gateway.store.deliveries.put, farm.jobs["failed"]
    url = f"https://bob:{CANARY}@hook.test/x?token={CANARY}"
    taken = put(job, "d-taken", **hook, target=url, state=Delivery.DELIVERED, attempts=2, response_code=200)
    taken.last_attempt_at.FromSeconds(NOW + 20)
    waits = put(job, "d-waits", **hook, target="https://slow.test/", state=Delivery.PENDING, attempts=3)
    waits.response_code, waits.error = 503, f"answered 503 {EVIL}"
    waits.next_attempt_at.FromSeconds(4_000_000_000)
    mail = {**hook, "channel": Delivery.Channel.EMAIL}
    put(job, "d-lost", **mail, target="ops@example.org", state=Delivery.FAILED, attempts=9, error="refused")


def _of_hosts(gateway: Client) -> None:
    agent = farm_service_pb2.Agent
    gateway.behind.add_agent(
        "host-1", hostname="alpha", pools=["default"], running=1, labels={"zone": EVIL}, daemon_id="D1", version="1"
    )
    gateway.behind.add_agent("gone", state=agent.DEAD, healthy=False, message=f"silent; {EVIL}", running=1)
    breaker = farm_service_pb2.Breaker
    gateway.behind.dispatchers[0].matching = dispatcher_pb2.GetMatchingResponse(
        pools=[
            farm_service_pb2.PoolStatus(
                name="default", pattern=".*", slots=4, running=1, ready=1, agents=2, healthy_agents=1
            )
        ],
        limits=[farm_service_pb2.LimitStatus(pattern="mail-.*", max_running=2, running=2)],
        breakers=[
            breaker(
                kind=breaker.HOST, subject="host-1", state=breaker.Phase.OPEN, cause=f"disk full {EVIL}", failures=3
            ),
            breaker(kind=breaker.IMAGE, subject="registry.invalid/x:1", state=breaker.Phase.HALF_OPEN, failures=5),
        ],
    )


def _figures(gateway: Client) -> None:
    stats = stats_pb2.Stats()
    stats.step.FromSeconds(60)
    for minute in range(_MINUTES):
        point = stats.points.add(succeeded=minute % 7, failed=minute % 3, stopped=minute % 2)
        point.at.FromSeconds(NOW + 60 * minute)
        if minute % 5:
            point.run_time.p50.FromMilliseconds(100 * minute)
            point.run_time.p95.FromMilliseconds(300 * minute)
    stats.exits.add(state=Execution.FAILED, exit_code=3, count=40)
    gateway.store.stats.CopyFrom(stats)
