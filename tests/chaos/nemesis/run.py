"""One run from the first process to the last verdict."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.chaos.alerts.judge import SLOW, complete, problems_of
from tests.chaos.alerts.scraper import Scraper
from tests.chaos.nemesis.checks import check, summary
from tests.chaos.nemesis.faults import plan
from tests.chaos.nemesis.history import History, read
from tests.chaos.nemesis.intents import HOSTS
from tests.chaos.nemesis.intents import SLOTS as SLOTS_RECURRING
from tests.chaos.nemesis.load import Load
from tests.chaos.nemesis.nemesis import Nemesis
from tests.chaos.nemesis.outages import CALM
from tests.chaos.nemesis.outages import outages as planned
from tests.chaos.nemesis.reader import Reader
from tests.chaos.nemesis.report import table
from tests.chaos.nemesis.stage import LIMITS, POOLS, ROOT, SLOTS, Stage
from tests.chaos.nemesis.steering import Steering
from tests.chaos.nemesis.violation import Violation
from tests.chaos.nemesis.world import World, read_world
from tests.support import process
from tests.support.farm import DockerObserver, Rest
from tests.support.missing import find_program

# Jobs a second. FerretDB decodes a whole collection for each question that isn't one `_id`: 20 ms of a processor for
# 1,600 executions. So a run is bounded by how many there are in its end, and nobody asks more often than needed.
_PACE, _MONGO_PACE = 3.0, 0.5
_MONGO_MOST = 600
# Where outages are recorded: what is slow then is to be so for their sake.
_CALM_PACE = 0.5
# Open jobs beyond which no more are sent.
_OPEN, _MONGO_OPEN = 30, 12
_MONGO_SLOTS = 1
# Seconds between two looks of the reader at what is open.
_LOOK, _MONGO_LOOK = 0.4, 2.0

# A run is over so many seconds after the time in which things break.
AFTER = 120


def _pace(minutes: float, *, mongo: bool) -> float:
    return min(_MONGO_PACE, _MONGO_MOST / (minutes * 60)) if mongo else _PACE


def for_the_end(minutes: float, *, mongo: bool) -> float:
    """Seconds of the end that are kept for reading, judging and clearing up: a long run has more to read."""
    # FerretDB took 67 s to tell of 511 executions, at a load of 20.
    return 45 + (min(200, 3.5 * minutes) if mongo else 0.75 * minutes)


def calm(minutes: float) -> float:
    """Seconds before the first fault, in which no alert may fire."""
    return min(15.0, 3 * minutes)


def to_settle(minutes: float, *, mongo: bool) -> float:
    """Seconds before the run's time is over in which nothing is broken any more."""
    return min(300.0, 5 * minutes) if mongo else min(120.0, 2 * minutes)


class Run:
    """`folder` keeps everything. It is over `limit` seconds after it was made, whatever state it is in."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        minutes: float,
        limit: float,
        kinds: Sequence[str] = (),
        targets: Sequence[str] = (),
        load: Sequence[str] = (),
        mongo: bool = False,
        services: Path = ROOT / "services",
        extra: Mapping[str, str] | None = None,
        outages: bool = False,
    ) -> None:
        self.folder = folder
        self.doing = "begins"
        # The exit status; 2 until it is judged.
        self.verdict = 2
        self._began = time.monotonic()
        self._limit = limit
        self._seed = seed
        self._minutes = minutes
        self._outages = outages
        self._calm = CALM if outages else calm(minutes)
        self._scraper: Scraper | None = None
        seconds = minutes * 60 - self._calm
        drawn = plan(seed, seconds, HOSTS, kinds=kinds, targets=targets, mongo=mongo)
        self._faults = planned() if outages else drawn
        self._history = History(folder / "history.jsonl")
        self._extra = extra
        self._mongo = mongo
        self._to_settle = to_settle(minutes, mongo=mongo)
        self._for_the_end = for_the_end(minutes, mongo=mongo)
        self._services = services
        self._load = load
        self._stage: Stage | None = None
        (folder / "faults.json").write_text(json.dumps([f.as_json() for f in self._faults], indent=1))

    def carry_out(self) -> int:
        try:
            with self._step("starts the farm"):
                process.remove_stale_folders()
                self._stage = Stage(
                    minutes=self._minutes,
                    mongo=self._mongo,
                    services=self._services,
                    extra=self._extra,
                    outages=self._outages,
                )
                self._stage.start()
            self._run(self._stage)
            # Before it clears up, which takes its time on a busy machine.
            self._history.close()
            with self._step("judges"):
                self.verdict = self._judge()
        finally:
            self.keep_logs()
            self._history.close()
            if self._stage is not None:
                with self._step("clears up"):
                    self._stage.close()
        return self.verdict

    def _judge(self) -> int:
        world = read_world(read(self._history.path))
        # Jobs of the outages' own are none of the load's: nobody has written down what must come of them.
        violations = [*([] if self._outages else check(world)), *self._alerts(world)]
        report = table(self._seed, self._minutes, summary(world, violations), violations)
        (self.folder / "report.txt").write_text(report, encoding="utf-8")
        print(report)
        print(f"kept in {self.folder}", flush=True)
        return 1 if violations else 0

    def _alerts(self, world: World) -> Iterator[Violation]:
        """What the rules of deploy/prometheus told otherwise than they should."""
        assert self._scraper is not None
        path = self.folder / "series.jsonl"
        complete(self._scraper, world.faults, int(self._calm)).write(path)
        promtool = find_program("promtool")
        if promtool is None:
            print("no promtool (apt-get install prometheus): the alerts are not judged", flush=True)
            return
        for problem in problems_of(promtool, path, self.folder, but=() if self._outages else SLOW):
            yield Violation("alert", "promtool", problem)

    def _run(self, stage: Stage) -> None:
        rest = Rest(f"http://127.0.0.1:{stage.farm.rest_port}", timeout=35)
        reader = Reader(rest, self._history, every=_MONGO_LOOK if self._mongo else _LOOK)
        load = Load(
            rest,
            stage.witness,
            self._history,
            seed=self._seed,
            kinds=self._load,
            opened=reader.opened,
            reopened=reader.reopened,
            count_open=reader.count_open,
            pace=_CALM_PACE if self._outages else _pace(self._minutes, mongo=self._mongo),
            most_open=_MONGO_OPEN if self._mongo or self._outages else _OPEN,
        )
        reader.retry = load.retry
        slots = _MONGO_SLOTS if self._mongo or self._outages else SLOTS_RECURRING
        steering = Steering(load, self._history, seed=self._seed, slots=slots, stopped=reader.stopped)
        nemesis = Nemesis(stage, self._faults, self._history)
        self._scraper = scraper = Scraper(stage.farm.targets)
        self._history.add(
            "setup",
            seed=self._seed,
            slots=SLOTS,
            # Whether what is read at once belongs together, and what is decided together is stored together.
            atomic=not self._mongo,
            hosts=list(HOSTS),
            limits=[list(limit) for limit in LIMITS],
            pools=[list(pool) for pool in POOLS],
        )
        with DockerObserver(stage.hosts) as observer:
            try:
                with self._step("breaks things"):
                    reader.start()
                    load.start()
                    steering.start()
                    scraper.start()
                    nemesis.start(after=self._calm)
                    # Outages have their times from here on, however long the start took.
                    begun = 0.0 if self._outages else self._seconds()
                    time.sleep(max(1.0, self._minutes * 60 - self._to_settle - begun))
                with self._step("settles"):
                    for problem in nemesis.stop(30):
                        print(f"could not be mended: {problem}", flush=True)
                    load.finish_posts(10)
                    steering.finish(20)
                    settled = self._settle(load, reader)
                    alive = self._alive(stage)
                    scraper.stop()
                with self._step("reads everything"):
                    load.stop(1)
                    reader.stop()
                    reader.read_all(self._began + self._limit - 20)
                    self._history.add("end", settled=settled, alive=alive)
            finally:
                self._write_witnesses(stage, observer)

    # The end ----------------------------------------------------------------------------------------------------------
    def _settle(self, load: Load, reader: Reader) -> bool:
        """Waits until all has ended, as long as there is time; whether it has."""
        deadline = self._began + self._limit - self._for_the_end
        before = reader.decided()
        while time.monotonic() < deadline - 30:
            now = reader.decided()
            # Each recurring job must get on after the last fault; one that doesn't is stopped behind its times.
            if len(now) == len(reader.live) and all(now[job] > before.get(job, 0) for job in now):
                break
            time.sleep(0.5)
        else:
            stuck = [job for job, until in reader.decided().items() if until <= before.get(job, 0)]
            for job in stuck:
                self._history.add("standstill", job=job)
        for job, intent in reader.live.items():
            load.stop_soon(job, intent)
        while time.monotonic() < deadline:
            if reader.still_open() == [] and reader.count_open() == 0 and reader.all_stopped():
                return True
            time.sleep(0.5)
        print(f"still open: {reader.still_open()}", flush=True)
        return False

    def _alive(self, stage: Stage) -> list[str]:
        """Executions whose containers still run, a while after everything has ended."""
        deadline = min(time.monotonic() + 20, self._began + self._limit - self._for_the_end + 5)
        while True:
            found = []
            for host in stage.hosts:
                with contextlib.suppress(Exception):
                    found += [(c.name or "").removeprefix("easyq-") for c in host.containers(status="running")]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def _write_witnesses(self, stage: Stage, observer: DockerObserver) -> None:
        for event in observer.events():
            self._history.add(
                "docker",
                host=event.host,
                action=event.action,
                at=event.nanoseconds,
                container=event.container[:12],
                execution=event.execution_id,
                job=event.labels.get("easyq.job", ""),
                task=event.labels.get("easyq.task", ""),
                exit_code=event.labels.get("exitCode", ""),
            )
        if not stage.witness.trace.exists():
            return
        for line in stage.witness.trace.read_text(encoding="ascii").splitlines():
            word, execution, attempt, fence, up = line.split()
            self._history.add(
                "witness", word=word, execution=execution, attempt=int(attempt), fence=int(fence), up=float(up)
            )

    def keep_logs(self) -> None:
        if self._stage is None:
            return
        for name, path in self._stage.logs().items():
            with contextlib.suppress(OSError):
                shutil.copy(path, self.folder / f"{name}.log")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def _step(self, doing: str) -> Iterator[None]:
        self.doing = doing
        began = self._seconds()
        yield
        print(f"{began:6.1f} s  {doing}, for {self._seconds() - began:.1f} s", flush=True)
