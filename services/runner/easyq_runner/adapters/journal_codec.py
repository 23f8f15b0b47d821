"""Journal entries as lines of JSON: `{"t": "start", "id": …, "epoch": …, …}`."""

from __future__ import annotations

import json
from typing import Any

from easyq_runner.domain.journal import (
    DaemonSeen,
    EndingBegun,
    Entry,
    Finished,
    Forgotten,
    SeenRunning,
    Settled,
    StartIntent,
)
from easyq_runner.domain.lifetime import Trace
from easyq_runner.domain.outcome import Ending
from easyq_runner.domain.records import (
    ExecutionKey,
    Failure,
    FailureReason,
    Finish,
    OutcomeKind,
    StreamEnd,
)


def encode(entry: Entry) -> bytes:
    """One line, with its end."""
    return json.dumps(_fields(entry), separators=(",", ":")).encode() + b"\n"


def _fields(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, DaemonSeen):
        trace = {"process": entry.trace.process, "bridge": entry.trace.bridge, "event": entry.trace.newest_event}
        return {"t": "daemon", "lifetime": entry.lifetime, "trace": trace, "live_restore": entry.live_restore}
    key = {"id": entry.key.execution_id, "epoch": entry.key.epoch}
    if isinstance(entry, StartIntent):
        began = {"began": entry.began_at, "boot": entry.boot_id}
        return {"t": "start", **key, "container": entry.container_id, "lifetime": entry.lifetime, **began}
    if isinstance(entry, SeenRunning):
        return {"t": "seen", **key, "lifetime": entry.lifetime}
    if isinstance(entry, EndingBegun):
        return {"t": "ending", **key, "ending": entry.ending.value}
    if isinstance(entry, Finished):
        return {"t": "finished", **key, "finish": _finish_fields(entry.finish)}
    return {"t": "settled" if isinstance(entry, Settled) else "forgotten", **key}


def _finish_fields(finish: Finish) -> dict[str, Any]:
    return {
        "outcome": finish.outcome.value,
        "exit_code": finish.exit_code,
        "oom_killed": finish.oom_killed,
        "failure": [finish.failure.reason.value, finish.failure.message] if finish.failure else None,
        "stdout": [finish.stdout.size, finish.stdout.truncated],
        "stderr": [finish.stderr.size, finish.stderr.truncated],
        "container": finish.container_id,
        "image": finish.image_digest,
        "ran_for": finish.ran_for,
    }


def decode(line: bytes) -> Entry:
    """Raises ValueError, KeyError or TypeError for a line that `encode` did not write."""
    raw: dict[str, Any] = json.loads(line)
    kind = raw["t"]
    if kind == "daemon":
        trace = raw["trace"]
        return DaemonSeen(
            lifetime=raw["lifetime"],
            trace=Trace(process=trace["process"], bridge=trace["bridge"], newest_event=trace["event"]),
            live_restore=raw["live_restore"],
        )
    key = ExecutionKey(raw["id"], raw["epoch"])
    if kind == "start":
        return StartIntent(
            key=key,
            container_id=raw["container"],
            lifetime=raw["lifetime"],
            # Journals of earlier versions have neither.
            began_at=raw.get("began"),
            boot_id=raw.get("boot", ""),
        )
    if kind == "seen":
        return SeenRunning(key=key, lifetime=raw["lifetime"])
    if kind == "ending":
        return EndingBegun(key=key, ending=Ending(raw["ending"]))
    if kind == "finished":
        return Finished(key=key, finish=_finish(raw["finish"]))
    if kind in {"settled", "forgotten"}:
        return Settled(key=key) if kind == "settled" else Forgotten(key=key)
    raise ValueError(f"unknown kind of entry: {kind!r}")


def _finish(raw: dict[str, Any]) -> Finish:
    failure = raw["failure"]
    return Finish(
        outcome=OutcomeKind(raw["outcome"]),
        exit_code=raw["exit_code"],
        oom_killed=raw["oom_killed"],
        failure=Failure(reason=FailureReason(failure[0]), message=failure[1]) if failure else None,
        stdout=StreamEnd(size=raw["stdout"][0], truncated=raw["stdout"][1]),
        stderr=StreamEnd(size=raw["stderr"][0], truncated=raw["stderr"][1]),
        container_id=raw["container"],
        image_digest=raw["image"],
        ran_for=raw["ran_for"],
    )
