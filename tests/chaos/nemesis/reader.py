"""Reads the API: during the run what has ended, at the end everything."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from tests.chaos.nemesis.history import History
from tests.chaos.nemesis.intents import LABEL, Intent
from tests.chaos.nemesis.world import ENDS
from tests.support.farm import Rest

_AWAY = (OSError, http.client.HTTPException, ValueError, AssertionError, KeyError)
_OPEN = ("SCHEDULED", "QUEUED", "RUNNING", "RETRYING")
# Ends after which a job may be retried: nobody asked for them.
_RETRIED = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT"})


class Reader:
    """Knows which jobs were answered, and looks at them in turn, `every` so many seconds, until they have ended."""

    def __init__(self, rest: Rest, history: History, *, every: float) -> None:
        # Is told each job, once, that has ended by itself and is to be retried.
        self.retry: Callable[[str, Intent], None] = lambda _job, _intent: None
        self._rest = rest
        self._history = history
        self._every = every
        self._lock = threading.Lock()
        # Those that have not ended, and of these, those that go on.
        self.recurring: dict[str, Intent] = {}
        self._stopping: set[str] = set()
        self._open: dict[str, Intent] = {}
        self._ended: set[str] = set()
        self._logs: set[str] = set()
        self._seen: set[str] = set()
        self._told: set[str] = set()
        self._skips: set[tuple[object, ...]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(20)

    def opened(self, job: str, intent: Intent) -> None:
        with self._lock:
            if intent.cron:
                if job not in self._ended:
                    self.recurring[job] = intent
            elif job not in self._ended:
                self._open[job] = intent

    def reopened(self, job: str, intent: Intent) -> None:
        with self._lock:
            self._ended.discard(job)
            self._open[job] = intent

    def stopped(self, job: str) -> None:
        """A recurring job's stop was answered."""
        self._stopping.add(job)

    @property
    def live(self) -> dict[str, Intent]:
        """Recurring jobs that nobody has stopped."""
        with self._lock:
            return {job: intent for job, intent in self.recurring.items() if job not in self._stopping}

    def count_open(self) -> int:
        return len(self._open)

    # While things break ---------------------------------------------------------------------------------------------
    def _follow(self) -> None:
        # Several at once: a store that takes a second for each answer must not leave it behind what ends.
        with ThreadPoolExecutor(4, thread_name_prefix="reader") as pool:
            while not self._over.wait(self._every):
                with self._lock:
                    jobs, recurring = list(self._open), list(self.recurring.items())
                list(pool.map(self._look, jobs))
                list(pool.map(lambda one: self._look_at_schedule(*one), recurring))

    def _look(self, job: str) -> None:
        if self._over.is_set():
            return
        try:
            answer = self._rest.call("GET", f"/jobs/{job}", timeout=10)
            if answer.status == 404:
                # The checker will tell.
                self._close(job)
            if answer.status != 200:
                return
            record = answer.json()
        except _AWAY:
            return
        if record["state"] not in ENDS:
            return
        self._look_at_executions(job, record["executions"])
        with self._lock:
            intent = self._open.get(job)
        self._close(job)
        if intent is not None and intent.by_hand and job not in self._told and record["state"] in _RETRIED:
            self._told.add(job)
            self.retry(job, intent)

    def _look_at_executions(self, job: str, executions: list[dict[str, Any]]) -> None:
        """Those that have ended, each once."""
        for execution in executions:
            name = execution["executionId"]
            if execution["state"] not in ENDS | {"LOST"}:
                continue
            if name not in self._seen:
                self._seen.add(name)
                self._history.add(
                    "seen",
                    execution=name,
                    state=execution["state"],
                    exit_code=execution["exitCode"],
                    fence=execution["fence"],
                )
            if execution["logsComplete"]:
                self._read_logs(job, name)

    def _close(self, job: str) -> None:
        with self._lock:
            self._open.pop(job, None)
            self._ended.add(job)

    def _look_at_schedule(self, job: str, intent: Intent) -> None:
        if self._over.is_set():
            return
        try:
            record = self._rest.get(f"/jobs/{job}", timeout=10)
            schedule, executions = record["schedule"], record["executions"]
            self._note_skips(job, schedule)
            # More of one kind than may be are told by the checker.
            still_open = [one["executionId"] for one in executions if one["state"] not in ENDS | {"LOST"}]
            if len(still_open) > 1 and intent.cron and intent.cron["overlap"] != "ALLOW":
                self._history.add("crowd", job=job, executions=still_open)
            if record["state"] == "PAUSED":
                self._history.add(
                    "rest", job=job, since=_ms(schedule["pausedAt"]), decided=_ms(schedule["decidedUntil"])
                )
            self._look_at_executions(job, executions)
            if record["state"] in ENDS:
                self._look_at_executions(job, list(self._pages(f"/jobs/{job}/executions?pageSize=500", 0)))
        except _AWAY:
            return
        if record["state"] in ENDS:
            with self._lock:
                self.recurring.pop(job, None)
                self._ended.add(job)

    def _note_skips(self, job: str, schedule: dict[str, Any] | None) -> None:
        for skip in (schedule or {}).get("skips", []):
            key = (job, *(skip[name] for name in ("reason", "first", "last", "count")))
            if key in self._skips:
                continue
            self._skips.add(key)
            self._history.add(
                "skip",
                job=job,
                reason=skip["reason"],
                first=_ms(skip["first"]),
                last=_ms(skip["last"]),
                count=skip["count"],
                decided=_ms(skip["decidedAt"]),
            )

    def _read_logs(self, job: str, execution: str) -> bool:
        """Whether both streams could be read."""
        if execution in self._logs:
            return True
        for stream in ("stdout", "stderr"):
            try:
                data = self._rest.output(job, stream, execution)
            except _AWAY:
                return False
            digest = hashlib.sha256(data).hexdigest()
            self._history.add("log", execution=execution, stream=stream, size=len(data), sha256=digest)
        self._logs.add(execution)
        return True

    # At the end -----------------------------------------------------------------------------------------------------
    def still_open(self) -> list[str] | None:
        """Jobs that run once and have not ended, by the API's own list; None: nobody answers."""
        query = "&".join(f"state={state}" for state in _OPEN)
        try:
            return [job["jobId"] for job in self._rest.get(f"/jobs?pageSize=1000&{query}", timeout=10)["items"]]
        except _AWAY:
            return None

    def all_stopped(self) -> bool:
        """Whether all recurring jobs were seen to have ended."""
        return not self.recurring

    def decided(self) -> dict[str, int]:
        """How far each live recurring job's times are decided, of those that can be read."""
        found = {}
        for job in self.live:
            try:
                schedule = self._rest.get(f"/jobs/{job}", timeout=10)["schedule"]
                found[job] = _ms(schedule["decidedUntil"]) or 0
            except (*_AWAY, TypeError):
                continue
        return found

    def read_all(self, deadline: float) -> None:
        """Writes down all jobs, executions and logs. Raises where they can't be read until `deadline` (monotonic)."""
        for job in self._pages("/jobs?pageSize=200", deadline):
            recurring = job["schedule"]
            if recurring is not None:
                recurring = self._one(f"/jobs/{job['jobId']}", deadline)["schedule"]
                self._note_skips(job["jobId"], recurring)
            self._history.add("job", **_job(job, recurring))
        executions = list(self._pages("/executions?pageSize=200", deadline))
        for execution in executions:
            self._history.add("execution", **_execution(execution))
        with ThreadPoolExecutor(4) as pool:
            for execution in executions:
                pool.submit(self._read_until, execution["jobId"], execution["executionId"], deadline)

    def _read_until(self, job: str, execution: str, deadline: float) -> None:
        while not self._read_logs(job, execution) and time.monotonic() < deadline:
            time.sleep(0.2)

    def _pages(self, path: str, deadline: float) -> Any:
        while path:
            page = self._one(path, deadline)
            yield from page["items"]
            path = page["nextUrl"]

    def _one(self, path: str, deadline: float) -> Any:
        while True:
            try:
                return self._rest.get(path, timeout=20)
            except _AWAY:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _job(job: dict[str, Any], schedule: dict[str, Any] | None) -> dict[str, Any]:
    number = job["spec"]["labels"].get(LABEL)
    return {
        "job": job["jobId"],
        "task": job["taskId"],
        "state": job["state"],
        "n": int(number) if number else None,
        "key": job["idempotencyKey"],
        "executions": job["executionCount"],
        "schedule": None
        if schedule is None
        else {
            "anchor": _ms(schedule["anchor"]),
            "decided": _ms(schedule["decidedUntil"]),
            "next": _ms(schedule["nextFireAt"]),
            "runs": schedule["runs"],
            "skipped": schedule["skipped"],
            "waiting": _ms(schedule["waitingFireAt"]),
        },
    }


def _execution(execution: dict[str, Any]) -> dict[str, Any]:
    return {
        "execution": execution["executionId"],
        "job": execution["jobId"],
        "task": execution["taskId"],
        "attempt": execution["attempt"],
        "fence": execution["fence"],
        "trigger": execution["trigger"],
        "state": execution["state"],
        "exit_code": execution["exitCode"],
        "reason": (execution["error"] or {}).get("reason", ""),
        "message": (execution["error"] or {}).get("message", ""),
        "host": execution["host"],
        "retries_used": execution["retriesUsed"],
        "infra_used": execution["infraRetriesUsed"],
        "fire": _ms(execution["fireAt"]),
        "finished": _ms(execution["finishedAt"]),
        "logs_complete": execution["logsComplete"],
        "stdout": execution["stdoutBytes"],
        "stderr": execution["stderrBytes"],
    }


def _ms(text: str | None) -> int | None:
    return None if not text else round(datetime.fromisoformat(text).timestamp() * 1000)
