"""One execution on this host, from its assignment, or its adoption, to its acknowledged end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from easyq_chassis import faults
from easyq_chassis.error_reports import report_error
from easyq_chassis.logs import get_logger
from easyq_runner.domain import starting
from easyq_runner.domain.adoption import Adoption
from easyq_runner.domain.journal import ExecutionRecord, Finished, SeenRunning, Settled
from easyq_runner.domain.outcome import classify
from easyq_runner.domain.records import (
    Assignment,
    ExecutionKey,
    Failure,
    FailureReason,
    Finish,
    Held,
    OutcomeKind,
    Phase,
    Report,
    Started,
    Terms,
    Verdict,
    Word,
)
from easyq_runner.errors import EngineError
from easyq_runner.usecases.commands import Commands, Killed, NotStarted
from easyq_runner.usecases.daemon import Watch
from easyq_runner.usecases.launch import Launch
from easyq_runner.usecases.logs import LogPump, Stale
from easyq_runner.usecases.prepare import Preparation
from easyq_runner.usecases.running import RunningContainer
from easyq_runner.usecases.tools import Tools

# Tries to send a log again of which the store misses bytes.
_REPAIRS = 3

_PHASES = {
    Adoption.START: Phase.CREATED,
    Adoption.AWAIT_START: Phase.CREATED,
    Adoption.FOLLOW: Phase.RUNNING,
}


class Execution:
    """Runs as one task, by one of its ways in. `commands` is how others speak to it meanwhile.

    `settled` is told when the farm has nothing more to hear of it; the task may go on with what is left to tidy up.
    """

    def __init__(
        self,
        tools: Tools,
        terms: Terms,
        settled: Callable[[Execution], None],
        *,
        start_within: float | None = None,
    ) -> None:
        deadline = None if start_within is None else tools.clock.boot() + start_within
        self.terms = terms
        self.commands = Commands(tools.clock, deadline=deadline)
        self._phase = Phase.ACCEPTED
        #: It was given up on the farm's word, which has no end of it from here.
        self.dropped = False
        self._tools = tools
        self._settled = settled
        self._container_id = ""
        # Values that no error may tell. What an adopted one has is not known; nor does the engine tell it so late.
        self._secrets: list[str] = []
        self._pump: LogPump | None = None
        self._running: RunningContainer | None = None
        self._ids: dict[str, Any] = {
            "task": terms.task_id,
            "job": terms.job_id,
            "execution": terms.key.execution_id,
            "epoch": terms.key.epoch,
        }
        if trace_id := tools.traces.trace_id(terms):
            self._ids["trace_id"] = trace_id
        self._log = get_logger().bind(**self._ids)

    @property
    def key(self) -> ExecutionKey:
        return self.terms.key

    @property
    def held(self) -> Held:
        """Its line in the inventory."""
        return Held(key=self.key, phase=self._phase)

    @property
    def begun(self) -> bool:
        """Whether its container runs, or has run."""
        return self._phase in {Phase.RUNNING, Phase.EXITED}

    # Ways in ----------------------------------------------------------------------------------------------------
    async def run(self, assignment: Assignment) -> None:
        """From the assignment on."""
        self._log.info("accepted", image=assignment.spec.image)
        self._secrets = self._tools.redactor.secrets_in(assignment.spec.envs)
        await self._to_the_end(self._run(assignment))

    async def adopt(self, how: Adoption, container_id: str, record: ExecutionRecord | None) -> None:
        """Goes on with what an earlier agent has begun; `container_id` is empty if there is no container."""
        self._container_id = container_id
        self._phase = _PHASES.get(how, Phase.EXITED)
        self._log.info("adopted", how=how.value, container=container_id)
        await self._to_the_end(self._adopt(how, record))

    async def say(self, word: Word) -> None:
        """There is nothing to do but to say this."""
        await self._to_the_end(self._settle(word))

    # The ways ---------------------------------------------------------------------------------------------------
    async def _run(self, assignment: Assignment) -> None:
        preparation = Preparation(self._tools, self.terms, assignment.spec, self.commands, self._tell)
        self._container_id = await preparation.create()
        self._tell(Phase.CREATED)
        await faults.point("runner.after_create")
        await self._start(image=assignment.spec.image, **preparation.took)

    async def _start(self, **told: object) -> None:
        """`told`: what the log says of it besides."""
        pump = self._make_pump()
        launch = self._launch(pump)
        watch = await launch.start()
        self._log.info("started", container=self._container_id[:12], **told)
        await self._see_through(watch, pump, adopted=False, record=None, sent_at=launch.sent_at)

    async def _adopt(self, how: Adoption, record: ExecutionRecord | None) -> None:
        if how is Adoption.START:
            await self._start()
            return
        if not self._container_id:
            known = record.finish if record else None
            await self._settle(known or classify(None, trusted=False, ending=None, limit=None))
            return
        pump = self._make_pump()
        launch = self._launch(pump)
        watch = launch.watch(record.lifetime if record else "")
        if how is Adoption.AWAIT_START:
            await launch.await_start(watch)
        elif how is Adoption.FOLLOW:
            watch.lifetime = self._tools.daemon.lifetime
            await self._tools.note(SeenRunning(key=self.key, lifetime=watch.lifetime))
        else:
            watch.ended.set()
        await self._see_through(watch, pump, adopted=True, record=record)

    async def _see_through(
        self,
        watch: Watch,
        pump: LogPump,
        *,
        adopted: bool,
        record: ExecutionRecord | None,
        sent_at: float | None = None,
    ) -> None:
        """From a container that runs, or has run, to the end."""
        self._running = RunningContainer(
            self._tools,
            self.terms,
            self.commands,
            watch,
            self._container_id,
            pump=pump,
            adopted=adopted,
            began_at=record.began_in(self._tools.clock.boot_id) if record else None,
            sent_at=sent_at,
            tell=self._tell,
        )
        if record is not None and record.finish is not None:
            finish = await self._running.finish_again(record.finish)
        else:
            finish = await self._running.finish(record.ending if record else None)
        await self._settle(finish)

    # The end ----------------------------------------------------------------------------------------------------
    async def _to_the_end(self, way: Coroutine[Any, Any, None]) -> None:
        """Every execution ends, whatever comes between."""
        # It has a task of its own: whatever is logged on its way has its ids.
        structlog.contextvars.bind_contextvars(**self._ids)
        try:
            with self._tools.traces.of(self.terms):
                await self._or_failed(way)
        except (Killed, Stale):
            self._log.info("dropped", phase=self._phase.value)
            self.dropped = True
            await self._clear_away()
        finally:
            self._settled(self)
            if self._running is not None:
                await self._running.close()
            if self._pump is not None:
                await self._pump.close()

    async def _or_failed(self, way: Coroutine[Any, Any, None]) -> None:
        try:
            await self._or_not_started(way)
        except (Killed, Stale):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours, or a full disk under the journal: it ends as such
            self._log.exception("execution_failed")
            terms = self.terms
            ids = {"task": terms.task_id, "job": terms.job_id, "execution": self.key.execution_id}
            report_error(error, "execution", {**ids, "epoch": str(self.key.epoch)})
            # What runs is ended, since nobody watches it any more.
            await self._settle(self._failed(error))

    async def _or_not_started(self, way: Coroutine[Any, Any, None]) -> None:
        try:
            await way
        except NotStarted as end:
            if end.word is None:
                raise Killed from end
            await self._settle(end.word)

    async def _settle(self, word: Word) -> None:
        """Says the last word until it is answered, and clears away."""
        word = self._without_secrets(word)
        if isinstance(word, Finish):
            self._tell(Phase.EXITED)
            await self._tools.note(Finished(key=self.key, finish=word))
        else:
            # Whoever gave it back must not start it after a crash.
            await self._tools.note(Settled(key=self.key))
        with self._tools.traces.step("finish" if isinstance(word, Finish) else "give_back", self.terms) as span:
            answer = await self.commands.unless_killed(self._tools.outbox.deliver(Report(key=self.key, word=word)))
            span.note(easyq__answer=answer.verdict.value)
        await faults.point("runner.after_finish_ack")
        self._log_end(word, answer.verdict)
        self.dropped = answer.verdict is Verdict.STALE
        self._settled(self)
        if answer.verdict is Verdict.OK and isinstance(word, Finish) and not answer.logs_complete:
            await self._repair_logs()
        await self._clear_away()

    def _without_secrets(self, word: Word) -> Word:
        """The engine's errors repeat commands, and whatever stands in them."""
        if isinstance(word, Started) or word.failure is None:
            return word
        message = self._tools.redactor.hide(word.failure.message, self._secrets)
        return replace(word, failure=replace(word.failure, message=message))

    async def _repair_logs(self) -> None:
        """The store has the end, but not every byte of the output: another try before the container goes."""
        if self._pump is None:
            return
        for attempt in range(_REPAIRS):
            try:
                self._log.warning("logs_missing_in_store", attempt=attempt + 1)
                await self._pump.repair()
            except EngineError as error:
                self._log.warning("logs_unreadable", error=str(error))
            except Stale:
                return
            else:
                return

    async def _clear_away(self) -> None:
        """Lets the container go, and the journal forget."""
        await self._tools.note(Settled(key=self.key))
        if self._container_id:
            self._tools.janitor.remove(self._container_id, self.key)
        else:
            self._tools.janitor.forget(self.key)

    def _failed(self, error: Exception) -> Finish:
        message = f"the agent failed: {error}"
        if not self.begun:
            return starting.infra_failed(FailureReason.HOST_FAILED, message)
        failure = Failure(reason=FailureReason.HOST_FAILED, message=message)
        return Finish(outcome=OutcomeKind.LOST, failure=failure, container_id=self._container_id)

    def _log_end(self, word: Word, verdict: Verdict) -> None:
        if isinstance(word, Finish):
            failure = word.failure
            self._log.info(
                "finished",
                outcome=word.outcome.value,
                exit_code=word.exit_code,
                reason=failure.reason.value if failure else None,
                message=failure.message if failure and word.exit_code is None else None,
                answer=verdict.value,
            )
        else:
            self._log.info("given_back", answer=verdict.value)

    def _make_pump(self) -> LogPump:
        self._pump = LogPump(
            self._tools.engine,
            self._tools.daemon,
            self._tools.sink,
            key=self.key,
            container_id=self._container_id,
            limit=self.terms.log_limit,
            end_patience=self._tools.times.end_patience,
            monitor=self._tools.times.monitor,
        )
        return self._pump

    def _launch(self, pump: LogPump) -> Launch:
        return Launch(self._tools, self.terms, self.commands, self._container_id, pump)

    def _tell(self, phase: Phase) -> None:
        self._phase = phase
