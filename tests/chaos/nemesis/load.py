"""Sends what the intents say, and writes down what was answered."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.nemesis.history import History
from tests.chaos.nemesis.intents import Intent, intents
from tests.support.farm import Rest, Witness

_AWAY = (OSError, http.client.HTTPException, ValueError)
_WORKERS = 6


class Load:
    """`opened` is told each job that was answered, `reopened` each that may run again; `count_open` says how many have
    not ended yet. `pace`: jobs a second at most. Beyond `most_open` open jobs no more are sent: they should end soon
    after the last fault."""

    def __init__(
        self,
        rest: Rest,
        witness: Witness,
        history: History,
        *,
        seed: int,
        kinds: Sequence[str] = (),
        opened: Callable[[str, Intent], None],
        reopened: Callable[[str, Intent], None],
        count_open: Callable[[], int],
        pace: float,
        most_open: int,
    ) -> None:
        self._pace = pace
        self._most_open = most_open
        self._rest = rest
        self._witness = witness
        self._history = history
        self._seed = seed
        self._kinds = kinds
        self._opened = opened
        self._reopened = reopened
        self._count_open = count_open
        self._numbers = random.Random(f"pace {seed}")
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="load")
        # No more new jobs; no more requests at all.
        self._ending, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feed", daemon=True)
        self._under_way = 0
        self._lock = threading.Lock()

    # Life -----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._thread.start()

    def finish_posts(self, timeout: float) -> bool:
        """No new jobs; waits for the requests under way, of which keyed ones are repeated until they are answered.
        Whether all have come to their end."""
        self._ending.set()
        deadline = time.monotonic() + timeout
        self._thread.join(timeout)
        while self._under_way and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._under_way == 0

    def stop(self, timeout: float) -> None:
        """No more requests."""
        self._ended.set()
        self.finish_posts(timeout)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _feed(self) -> None:
        batch: list[Intent] = []
        for intent in intents(self._seed, self._kinds):
            while self._count_open() + self._under_way >= self._most_open:
                if self._ending.wait(0.1):
                    break
            if self._ending.wait(self._numbers.expovariate(self._pace)):
                break
            self._history.add("intent", **intent.as_event())
            if intent.way != "batch":
                for _ in range(3 if intent.way == "repeated" else 1):
                    self._submit(self.post, intent)
            else:
                batch.append(intent)
            if len(batch) >= 4:
                self._submit(self._post_batch, batch)
                batch = []
        if batch:
            self._submit(self._post_batch, batch)

    def _submit(self, function: Callable[[Any], object], argument: Any) -> None:
        with self._lock:
            self._under_way += 1

        def run() -> None:
            try:
                function(argument)
            finally:
                with self._lock:
                    self._under_way -= 1

        self._pool.submit(run)

    # Requests -------------------------------------------------------------------------------------------------------
    def post(self, intent: Intent) -> str:
        """Once, or with a key until it is answered; the job, empty where nobody knows it."""
        headers = {"Idempotency-Key": intent.key} if intent.key else {}
        spec = intent.spec(self._witness)
        while not self._ended.is_set():
            answer = self._call(f"/tasks/{intent.task}", spec, headers)
            self._note([intent], [answer["body"]], answer)
            if answer["outcome"] != "unknown" and answer["status"] != 429:
                return str(answer["body"].get("jobId", ""))
            if not intent.key:
                break
            self._ended.wait(0.3)
        return ""

    def _post_batch(self, batch: list[Intent]) -> None:
        jobs = [{"taskId": one.task, "idempotencyKey": one.key, "spec": one.spec(self._witness)} for one in batch]
        while not self._ended.is_set():
            answer = self._call("/batch", {"jobs": jobs}, {})
            results = answer["body"].get("results") if answer["outcome"] == "answered" else None
            if results is not None and len(results) == len(batch):
                self._note(batch, [result.get("job") or {} for result in results], answer)
                if all(result.get("job") for result in results):
                    return
            else:
                self._note(batch, [{}] * len(batch), answer)
            self._ended.wait(0.3)

    def _note(self, batch: list[Intent], bodies: list[dict[str, Any]], answer: dict[str, Any]) -> None:
        for intent, body in zip(batch, bodies, strict=True):
            job = body.get("jobId", "") if answer["outcome"] == "answered" else ""
            # One of a batch that failed may have been made, for all that is known.
            outcome = "unknown" if answer["outcome"] == "answered" and not job else answer["outcome"]
            self._history.add(
                "post",
                n=intent.n,
                job=job,
                replayed=body.get("replayed", False),
                outcome=outcome,
                **{name: answer[name] for name in ("began", "ended", "status")},
            )
            if job:
                self._opened(job, intent)
                if intent.stop_after is not None and not body.get("replayed"):
                    self._later(intent.stop_after, job, intent)

    def _later(self, seconds: float, job: str, intent: Intent) -> None:
        timer = threading.Timer(seconds, self._submit, (lambda _none: self.stop_job(job, intent), None))
        timer.daemon = True
        timer.start()

    def stop_job(self, job: str, intent: Intent, tries: int = 40) -> bool:
        """Until it is answered or refused; whether it was answered."""
        for _ in range(tries):
            answer = self._call(f"/jobs/{job}/stop", None, {})
            body = answer["body"]
            self._history.add(
                "stop",
                n=intent.n,
                job=job,
                outcome=answer["outcome"],
                result=body.get("outcome", ""),
                executions=(body.get("job") or {}).get("executionCount", 0),
                **{name: answer[name] for name in ("began", "ended", "status")},
            )
            if answer["outcome"] != "unknown" and answer["status"] != 429:
                return bool(answer["outcome"] == "answered")
            if self._ended.wait(0.3):
                return False
        return False

    def stop_soon(self, job: str, intent: Intent) -> None:
        """In the background, until it is answered or all is over."""
        threading.Thread(target=self.stop_job, args=(job, intent, 1_000), daemon=True).start()

    def retry(self, job: str, intent: Intent) -> None:
        """Once, by hand, of a job that has ended, while there is still time for it."""
        if not self._ending.is_set():
            self._submit(lambda _none: self.command(job, intent, "retry"), None)

    def command(self, job: str, intent: Intent, verb: str) -> str:
        """Once; the outcome (answered | refused | unknown)."""
        answer = self._call(f"/jobs/{job}/{verb}", None, {})
        body = answer["body"]
        self._history.add(
            "command",
            n=intent.n,
            job=job,
            verb=verb,
            outcome=answer["outcome"],
            execution=body.get("executionId", ""),
            **{name: answer[name] for name in ("began", "ended", "status")},
        )
        if verb == "retry" and answer["outcome"] != "refused":
            self._reopened(job, intent)
        return str(answer["outcome"])

    def _call(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """A POST. 4xx changed nothing; of all else but 200 nobody knows what became."""
        began, status, answer = time.time_ns(), 0, {}
        try:
            reply = self._rest.call("POST", path, body, headers=headers, timeout=35)
            status, answer = reply.status, reply.json()
        except _AWAY:
            pass
        outcome = "answered" if status == 200 and answer else "refused" if 400 <= status < 500 else "unknown"
        return {"began": began, "ended": time.time_ns(), "status": status, "body": answer, "outcome": outcome}
