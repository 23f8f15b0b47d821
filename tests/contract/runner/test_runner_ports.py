"""Journal, lease notes, link and log sink: fakes and real ones."""

import asyncio
import uuid
from dataclasses import replace

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.spec_pb2 import JobSpec, OnLost
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import EasyQError, FailedPrecondition, Unavailable
from easyq_internal.store.v1.records_pb2 import Held as WireHeld
from easyq_runner.adapters.claims import StoreClaims
from easyq_runner.domain.image_cache import CachedImage
from easyq_runner.domain.journal import (
    DaemonSeen,
    EndingBegun,
    Entry,
    Finished,
    Forgotten,
    SeenRunning,
    Settled,
    StartIntent,
    fold,
)
from easyq_runner.domain.lease import LeaseNote
from easyq_runner.domain.lifetime import Trace
from easyq_runner.domain.outcome import Ending
from easyq_runner.domain.records import (
    ExecutionKey,
    Failure,
    FailureReason,
    Finish,
    GiveBack,
    Held,
    LogTail,
    Offer,
    OrderKind,
    OutcomeKind,
    Phase,
    Report,
    Started,
    Stream,
    StreamEnd,
    Terms,
    Upkeep,
    Verdict,
)
from easyq_runner.ports import (
    Beat,
    BeatAnswer,
    Claims,
    Goodbye,
    Health,
    Hello,
    ImageNotes,
    Journal,
    LeaseNotes,
    Link,
    LogSink,
    Orders,
    Parked,
    ReportAnswers,
    Reports,
    UpkeepNews,
)
from tests.fakes.runner import FakeFarm
from tests.support.waiting import eventually

KEY = ExecutionKey("e", 1)
FINISH = Finish(
    outcome=OutcomeKind.EXITED,
    exit_code=3,
    oom_killed=True,
    failure=Failure(reason=FailureReason.OOM_KILLED, message="zu viel Speicher – ü"),
    stdout=StreamEnd(size=5, truncated=True),
    stderr=StreamEnd(size=6),
    container_id="c",
    image_digest="sha256:i",
    ran_for=1.5,
)
HELLO = Hello(
    agent_id="agent",
    daemon_id="daemon",
    hostname="host",
    pools=("a", "b"),
    slots=4,
    labels={"zone": "x"},
    version="1",
    inventory=(Held(key=ExecutionKey("x", 2), phase=Phase.EXITED),),
    health=Health(healthy=True),
)


# --------------------------------------------------------------------------------------------------------- journal
async def test_journal_gives_back_what_was_appended(journal: Journal) -> None:
    assert await journal.load() == fold([])
    entries: list[Entry] = [
        DaemonSeen(lifetime="l", trace=Trace(process="p", bridge="b", newest_event=7), live_restore=True),
        StartIntent(key=KEY, container_id="c", lifetime="l", began_at=12.25, boot_id="b"),
        SeenRunning(key=KEY, lifetime="m"),
        EndingBegun(key=KEY, ending=Ending.TIMEOUT),
        Finished(key=KEY, finish=FINISH),
        Settled(key=ExecutionKey("f", 2)),
        Finished(key=ExecutionKey("g", 1), finish=Finish(outcome=OutcomeKind.STOPPED)),
        Forgotten(key=ExecutionKey("g", 1)),
    ]
    await asyncio.gather(*(journal.append(entry, sync=number % 3 == 0) for number, entry in enumerate(entries)))
    assert await journal.load() == fold(entries)
    await journal.close()


# ------------------------------------------------------------------------------------------------------ lease notes
def test_lease_note(notes: LeaseNotes) -> None:
    assert notes.read() is None
    for parked in (False, True):
        note = LeaseNote(boot_id="b", renewed_at=123.25, lost_after=120.0, parked=parked)
        notes.write(note)
        assert notes.read() == note


# ------------------------------------------------------------------------------------------------------------- link
async def test_hello_and_welcome(link: Link, farm: FakeFarm) -> None:
    one = farm.run(
        JobSpec(image="i", command=["a"], on_lost=OnLost.WAIT, timeout=Duration(seconds=5)), start_within=2.5
    )
    stream = await link.open(farm.address, HELLO, 5.0)
    assert (stream.welcome.session, stream.welcome.beat_every, stream.welcome.lost_after) == (1, 0.1, 60.0)
    orders = {order.kind: order for order in stream.welcome.orders}
    assert orders[OrderKind.KILL].key == ExecutionKey("x", 2)
    run = orders[OrderKind.RUN]
    assert run.key == ExecutionKey(one.execution_id, 1)
    assert run.assignment is not None
    assert (run.assignment.spec.command, run.assignment.start_within) == (("a",), 2.5)
    assert (run.assignment.terms.timeout, run.assignment.terms.stop_grace) == (5.0, 10.0)
    hello = farm.hellos[0]
    assert (hello.agent_id, hello.daemon_id, list(hello.pools), hello.slots) == ("agent", "daemon", ["a", "b"], 4)
    assert hello.inventory[0].phase == WireHeld.Phase.EXITED
    assert hello.health.healthy
    await stream.close()


async def test_beats_reports_health_and_goodbye(link: Link, farm: FakeFarm) -> None:
    stream = await link.open(farm.address, HELLO, 5.0)
    await stream.send(Beat(number=7, inventory=(Held(key=KEY, phase=Phase.PULLING),)))
    answer = await stream.receive()
    assert isinstance(answer, BeatAnswer)
    assert (answer.number, answer.orders[0].kind) == (7, OrderKind.KILL)
    one = farm.run(JobSpec(image="i"))
    key = ExecutionKey(one.execution_id, 1)
    orders = await stream.receive()
    assert isinstance(orders, Orders)
    assert (orders.items[0].kind, orders.items[0].key) == (OrderKind.RUN, key)
    started = Report(key=key, word=Started(container_id="c", image_digest="sha256:i"))
    await stream.send(Reports(items=(started, Report(key=KEY, word=Started(container_id="", image_digest="")))))
    answers = await stream.receive()
    assert isinstance(answers, ReportAnswers)
    assert [item.verdict for item in answers.items] == [Verdict.OK, Verdict.STALE]
    assert one.started.container_id == "c"
    farm.stop_execution(one)
    stop = await stream.receive()
    assert isinstance(stop, Orders)
    assert stop.items[0].kind is OrderKind.STOP
    await stream.send(Health(healthy=False, message="why"))
    await stream.send(Goodbye())
    assert isinstance(await stream.receive(), Parked)
    assert [(told.healthy, told.message) for told in farm.healths] == [(False, "why")]
    await stream.close()


async def test_many_send_at_once(link: Link, farm: FakeFarm) -> None:
    """Beats, reports and news of the agent's health come from tasks of their own."""
    stream = await link.open(farm.address, HELLO, 5.0)
    await asyncio.gather(*(stream.send(Beat(number=number, inventory=())) for number in range(100)))
    answered = [await stream.receive() for _ in range(100)]
    assert sorted(beat.number for beat in answered if isinstance(beat, BeatAnswer)) == list(range(100))
    await stream.close()


async def test_an_end_with_all_that_belongs_to_it(link: Link, farm: FakeFarm) -> None:
    stream = await link.open(farm.address, HELLO, 5.0)
    one = farm.run(JobSpec(image="i"))
    await stream.receive()
    tail = (LogTail(stream=Stream.STDOUT, offset=0, data=b"abcde"), LogTail(stream=Stream.STDERR, offset=0, data=b"x"))
    finish = Finish(
        outcome=FINISH.outcome,
        exit_code=3,
        oom_killed=True,
        failure=FINISH.failure,
        stdout=FINISH.stdout,
        stderr=FINISH.stderr,
        tail=tail,
        ran_for=1.5,
    )
    await stream.send(Reports(items=(Report(key=ExecutionKey(one.execution_id, 1), word=finish),)))
    answers = await stream.receive()
    assert isinstance(answers, ReportAnswers)
    assert (answers.items[0].verdict, answers.items[0].logs_complete) == (Verdict.OK, False)
    assert (one.stdout, one.stderr, one.outcome) == (b"abcde", b"x", "EXITED")
    assert (one.finish.exit_code, one.finish.ran_for.ToMilliseconds(), one.finish.stdout_truncated) == (3, 1500, True)
    back = farm.run(JobSpec(image="i"))
    await stream.receive()
    word = GiveBack(failure=Failure(reason=FailureReason.HOST_FAILED, message="busy"))
    await stream.send(Reports(items=(Report(key=ExecutionKey(back.execution_id, 1), word=word),)))
    await eventually(lambda: back.failure == "busy")
    await stream.close()


async def test_stream_that_ends(link: Link, farm: FakeFarm) -> None:
    stream = await link.open(farm.address, HELLO, 5.0)
    farm.break_stream()
    with pytest.raises(Unavailable):
        await stream.receive()

    async def refused() -> bool:
        with pytest.raises(EasyQError):
            await stream.send(Goodbye())
        return True

    assert await eventually(refused)
    await stream.close()


async def test_hello_that_is_refused(link: Link, farm: FakeFarm) -> None:
    farm.refuse = grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(FailedPrecondition, match="refused by the test"):
        await link.open(farm.address, HELLO, 5.0)


# ------------------------------------------------------------------------------------------------------------- logs
async def test_appends(sink: LogSink, farm: FakeFarm) -> None:
    one = farm.run(JobSpec(image="i"))
    key = ExecutionKey(one.execution_id, 1)
    first = await sink.append(key, Stream.STDOUT, 0, b"hello")
    assert (first.verdict, first.stored) == (Verdict.OK, 5)
    again = await sink.append(key, Stream.STDOUT, 3, b"lo world")
    assert (again.verdict, again.stored) == (Verdict.OK, 11)
    gap = await sink.append(key, Stream.STDOUT, 20, b"x")
    assert (gap.verdict, gap.stored) == (Verdict.GAP, 11)
    both = await asyncio.gather(
        sink.append(key, Stream.STDERR, 0, b"e" * 1000), sink.append(key, Stream.STDOUT, 11, b"\xff\x00")
    )
    assert [answer.stored for answer in both] == [1000, 13]
    stale = await sink.append(ExecutionKey(one.execution_id, 2), Stream.STDOUT, 13, b"x")
    assert stale.verdict is Verdict.STALE
    assert (one.stdout, one.stderr) == (b"hello world\xff\x00", b"e" * 1000)


async def test_append_that_fails_may_be_repeated(sink: LogSink, farm: FakeFarm) -> None:
    one = farm.run(JobSpec(image="i"))
    farm.append_failures = 1
    key = ExecutionKey(one.execution_id, 1)
    with pytest.raises(Unavailable):
        await sink.append(key, Stream.STDOUT, 0, b"hello")
    assert (await sink.append(key, Stream.STDOUT, 0, b"hello")).stored == 5
    assert one.stdout == b"hello"


# ------------------------------------------------------------------------------------------------------------- images
def test_image_notes_are_replaced(image_notes: ImageNotes) -> None:
    assert image_notes.read() == {}
    one = CachedImage(image_id="a", references=frozenset({"a:1", "b:1"}), last_used=7, size=9)
    image_notes.write({"a": one})
    assert image_notes.read() == {"a": one}
    image_notes.write({})
    assert image_notes.read() == {}


# ------------------------------------------------------------------------------------------------------------- claims
async def test_claims_of_executions(claims: Claims, farm: FakeFarm) -> None:
    terms = Terms(key=ExecutionKey(str(uuid.uuid4()), 1), task_id="t", job_id="j", attempt=1, fence=1, log_limit=1)
    assert not await claims.is_claimed(terms, "old")
    farm.elsewhere[terms.key.execution_id] = "old"
    assert await claims.is_claimed(terms, "old")
    assert not await claims.is_claimed(terms, "older")


async def test_claims_while_the_store_is_away(farm: FakeFarm) -> None:
    channel = open_channel(farm.address)
    await farm.stop()
    terms = Terms(key=ExecutionKey(str(uuid.uuid4()), 1), task_id="t", job_id="j", attempt=1, fence=1, log_limit=1)
    with pytest.raises(EasyQError):
        await StoreClaims(channel).is_claimed(terms, "old")
    await channel.close()


# ------------------------------------------------------------------------------------------------------------- upkeep
async def test_offers_upkeep_and_give_backs_cross_the_link(link: Link, farm: FakeFarm) -> None:
    farm.set_upkeep(cordoned=True)
    stream = await link.open(farm.address, replace(HELLO, offer=Offer(cpu_millis=1500, memory=7, gpus=2)), 5)
    assert farm.hellos[-1].offer.cpu_millis == 1500
    assert stream.welcome.upkeep == Upkeep(cordoned=True)
    farm.tell_upkeep(draining=True, within=60)
    told = await stream.receive()
    assert isinstance(told, UpkeepNews)
    assert told.upkeep.draining
    assert told.upkeep.deadline_in is not None
    assert 50 < told.upkeep.deadline_in <= 60
    await stream.send(Beat(number=1, inventory=()))
    answer = await stream.receive()
    assert isinstance(answer, BeatAnswer)
    assert answer.upkeep.draining
    one = farm.run(JobSpec(image="a"))
    assert isinstance(await stream.receive(), Orders)
    back = GiveBack(failure=Failure(reason=FailureReason.REGISTRY_BUSY, message="429"), retry_after=7.5)
    await stream.send(Reports(items=(Report(key=ExecutionKey(one.execution_id, 1), word=back),)))
    assert isinstance(await stream.receive(), ReportAnswers)
    assert one.give_back.retry_after.ToMilliseconds() == 7500
    await stream.close()
