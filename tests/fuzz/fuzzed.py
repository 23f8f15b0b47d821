"""What schemathesis is given: the document, closed, and bodies that often make sense."""

import copy
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.meta import TestPhase

from easyq_gateway.domain.images import parse_image
from easyq_gateway.openapi.comments import load_comments
from easyq_gateway.openapi.document import Document

#: At least about so many requests are made (`make fuzz`: ten times as many).
CASES = int(os.environ.get("FUZZ_CASES", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261126"))
#: Only paths that have this in them: to look at one of them again.
PATHS = re.compile(os.environ.get("FUZZ_PATHS", ""))
# Cases that schemathesis makes at the borders of each value, however many random ones are asked for; about. Where fewer
# are asked for in all, a part of those is taken, another one for another seed.
_AT_BORDERS = 5_500
_TAKEN = CASES / _AT_BORDERS
_LEAST_RANDOM = 5

# What has no end here, where no job has one, and what is no HTTP.
_ENDLESS = re.compile(r"/(stream|events|ws)$")

_SCHEDULES = ("startAt", "startIn", "cron")
_OF_RECURRING = ("timeZone", "overlap", "misfire", "jitter", "misfireDeadline", "startAfter", "endAt", "maxRuns")
_TIMES = ("startAt", "expiration", "startAfter", "endAt")
_RANGED = ("startIn", "startDeadline", "timeout", "stopGrace", "jitter", "misfireDeadline")
_EVENTS = ("succeeds", "fails", "finishes")
_CRONS = ("@hourly", "0 3 * * *", "*/5 * * * 1-5", "H H 1 * *", "0 0 L * *", "@every 90s")


def document() -> dict[str, Any]:
    """The document with answers closed: a field that it doesn't name is a mistake here, if not to a client."""
    made = copy.deepcopy(Document(load_comments(), version="0").build())
    for schema in made["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    made["paths"] = {
        path: verbs for path, verbs in made["paths"].items() if PATHS.search(path) and not _ENDLESS.search(path)
    }
    return made


def config(operations: int) -> SchemathesisConfig:
    """All checks; the same cases for the same seed."""
    random_ones = max(_LEAST_RANDOM, -(-(CASES - _AT_BORDERS) // operations))
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "generation": {"max-examples": random_ones, "deterministic": True},
            "phases": {"stateful": {"enabled": False}},
            "checks": {
                # What may be refused although the schema allows it is judged by `unexplained`.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "409", "416"]},
                "negative_data_rejection": {
                    "expected-statuses": ["400", "403", "404", "405", "409", "413", "415", "416"]
                },
            },
        }
    )


def is_taken(case: Any) -> bool:
    """Whether this case is among those that are asked for."""
    if case.meta is None or case.meta.phase.name != TestPhase.COVERAGE:
        return True
    told = repr((SEED, case.operation.label, case.path_parameters, case.query, case.headers, case.body))
    return zlib.crc32(told.encode("utf-8", "backslashreplace")) / 2**32 < _TAKEN


def load() -> Any:
    """The schema, ready to make cases of."""
    made = document()
    count = sum(len(verbs) for verbs in made["paths"].values())
    return schemathesis.openapi.from_dict(made, config=config(count))


@dataclass(frozen=True, kw_only=True)
class Known:
    """A job that exists, as path parameters name it."""

    task: str
    job: str
    execution: str


def adjust(case: Any, known: Sequence[Known]) -> None:
    """Makes more of what keeps to the schema succeed: random ids name nothing, and random specs nearly always break one
    of the rules that no schema can say. Some are left as they are."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.path_parameters and case.method != "DELETE" and len(repr(case.path_parameters)) % 3:
        one = known[len(repr(case.path_parameters)) % len(known)]
        there = {"taskId": one.task, "jobId": one.job, "executionId": one.execution}
        case.path_parameters = {name: there.get(name, value) for name, value in case.path_parameters.items()}
        if case.method == "PUT":
            case.path_parameters["jobId"] += "-put"
    if isinstance(case.body, dict):
        items = case.body["jobs"] if isinstance(case.body.get("jobs"), list) else [{"spec": case.body}]
        for item in items:
            spec = item.get("spec") if isinstance(item, dict) else None
            if isinstance(spec, dict) and "image" in spec and len(repr(spec)) % 4:
                _make_sensible(spec)


def _make_sensible(spec: dict[str, Any]) -> None:
    given = [name for name in _SCHEDULES if spec.get(name) is not None]
    kept = given[len(repr(spec)) % len(given)] if given else ""
    dropped = [*(name for name in given if name != kept), *(() if kept == "cron" else _OF_RECURRING)]
    dropped += [name for name in _TIMES if name != kept]
    for name in dropped:
        spec.pop(name, None)
    for name in _RANGED:
        if isinstance(spec.get(name), str):
            spec[name] = "90s"
    for number, mount in enumerate(spec.get("mounts") or ()):
        mount["source"] = {"TMPFS": "", "VOLUME": "data"}.get(mount.get("type"), "/srv")
        mount["target"] = f"/mnt/{number}"
    for hook in (one for event in _EVENTS for one in (spec.get("webhooks") or {}).get(event) or ()):
        hook["url"] = "http://127.0.0.1/told"
        hook.pop("headers", None)
        if hook.get("secret"):
            hook.pop("secretName", None)
    if kept == "cron":
        spec["cron"] = _CRONS[len(repr(spec)) % len(_CRONS)]
        spec.pop("timeZone", None)
    if kept == "startAt":
        spec["startAt"] = 1_700_000_000
    try:
        parse_image(spec["image"])
    except ValueError:
        spec["image"] = "busybox:1"
