"""Words that are kept until they are answered."""

import asyncio

import pytest

from easyq_runner.domain.records import (
    ExecutionKey,
    Finish,
    OutcomeKind,
    Report,
    ReportAnswer,
    Started,
    Verdict,
)
from easyq_runner.usecases.outbox import Outbox

KEY, OTHER = ExecutionKey("e", 1), ExecutionKey("f", 1)
STARTED = Report(key=KEY, word=Started(container_id="c", image_digest=""))
FINISH = Report(key=KEY, word=Finish(outcome=OutcomeKind.EXITED, exit_code=0))


def say(outbox: Outbox, report: Report) -> "asyncio.Task[ReportAnswer]":
    return asyncio.create_task(outbox.deliver(report))


async def test_words_of_one_moment_go_together_and_once() -> None:
    outbox = Outbox()
    assert outbox.empty
    tasks = [say(outbox, FINISH), say(outbox, Report(key=OTHER, word=FINISH.word))]
    await asyncio.sleep(0)
    assert len(outbox.take()) == 2
    assert outbox.take() == ()
    for key in (OTHER, KEY):
        outbox.answer(ReportAnswer(key=key, verdict=Verdict.OK, logs_complete=True))
    assert [(await task).key for task in tasks] == [KEY, OTHER]
    assert outbox.empty


async def test_the_end_waits_for_the_answer_to_the_start() -> None:
    outbox = Outbox()
    start = say(outbox, STARTED)
    await asyncio.sleep(0)
    assert outbox.take() == (STARTED,)
    start.cancel()
    end = say(outbox, FINISH)
    await asyncio.sleep(0)
    assert outbox.take() == ()
    outbox.answer(ReportAnswer(key=KEY, verdict=Verdict.OK))
    assert outbox.take() == (FINISH,)
    await asyncio.sleep(0)
    assert not end.done()
    outbox.answer(ReportAnswer(key=KEY, verdict=Verdict.STALE))
    assert (await end).verdict is Verdict.STALE


async def test_a_start_that_was_not_sent_is_overtaken_by_the_end() -> None:
    outbox = Outbox()
    start = say(outbox, STARTED)
    await asyncio.sleep(0)
    start.cancel()
    end = say(outbox, FINISH)
    await asyncio.sleep(0)
    assert outbox.take() == (FINISH,)
    end.cancel()


async def test_what_was_under_way_on_a_broken_stream_is_sent_again() -> None:
    outbox = Outbox()
    start = say(outbox, STARTED)
    await asyncio.sleep(0)
    outbox.take()
    outbox.lose()
    assert outbox.take() == (STARTED,)
    # Nobody waits for it any more: then it is not.
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    outbox.lose()
    assert outbox.take() == ()


async def test_what_was_not_decided_is_sent_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyq_runner.usecases.outbox._FIRST_RETRY", 0.01)
    outbox = Outbox()
    end = say(outbox, FINISH)
    await asyncio.sleep(0)
    outbox.take()
    waiting = outbox.changes.wait()
    outbox.answer(ReportAnswer(key=KEY, verdict=Verdict.RETRY))
    await waiting
    assert outbox.take() == ()
    await outbox.changes.wait()
    assert outbox.take() == (FINISH,)
    outbox.answer(ReportAnswer(key=KEY, verdict=Verdict.OK))
    assert (await end).verdict is Verdict.OK
    outbox.answer(ReportAnswer(key=KEY, verdict=Verdict.OK))  # belated, and nobody's
