"""What was seen, one JSON object a line. `kind` says which of these it is.

Times `at`, `began`, `ended` are ns since the epoch by the machine's own clock.

- setup    seed, atomic (whether the store keeps all of a decision at once), slots, hosts,
             limits [[regex, most]], pools [[name, regex, most]]
- intent   n, task, key, program, retries, retry_on, on_lost, timeout, deadline, cron: what is going to be asked for
- post     n, began, ended, outcome (answered | refused | unknown), status, job, replayed
- command  n, job, verb (trigger | pause | resume | retry), began, ended, outcome, status, execution
- stop     n, job, began, ended, outcome, status, result (STOPPED | STOPPING), executions
- docker   host, action, at, container, execution, job, task, attempt
- witness  word (start | end), execution, attempt, fence, up (seconds)
- fault    number, fault (its kind), target, began, ended, error
- seen     what an ended execution was while things still broke: execution, state, exit_code, fence
- skip     job, reason, first, last, count, decided: as the API showed them
- crowd    job, executions: open ones that it showed at once, of a job whose overlap is not ALLOW
- rest     job, since, decided: a paused one, and up to which time its fires were decided on
- job      at the end: job, task, state, n, key, executions, schedule {anchor, decided, next, runs, skipped, waiting}
- execution  at the end: execution, job, task, attempt, fence, trigger, state, exit_code, reason, retries_used,
             infra_used, fire, finished, logs_complete, stdout, stderr
- log      execution, stream, size, sha256
- standstill  job: a recurring one that decided on nothing any more after the last fault
- end      settled, alive (containers that still ran)

Times within `schedule`, `skip`, `fire` and `finished` are ms since the epoch, by the store's clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """Appends to a file; may be used by many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    def add(self, kind: str, **what: Any) -> None:
        line = json.dumps({"kind": kind, **what}, separators=(",", ":"))
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def read(path: Path) -> Iterator[Event]:
    """The events of a history file; a last line that was cut off is left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
