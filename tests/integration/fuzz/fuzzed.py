"""What schemathesis is given: the document, closed, and bodies that often make sense."""

import copy
import os
import re
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig

from easyq_gateway.domain.images import parse_image
from easyq_gateway.openapi.comments import load_comments
from easyq_gateway.openapi.document import Document

#: At least so many requests are made; `make fuzz` makes more.
CASES = int(os.environ.get("FUZZ_CASES", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261126"))
# Cases that schemathesis makes at the borders of each value, however many random ones are asked for; about.
_AT_BORDERS = 4_400
_LEAST_RANDOM = 5

# What has no end here, where no job has one.
_ENDLESS = re.compile(r"/stream$")

_SCHEDULES = ("startAt", "startIn", "cron")
_OF_RECURRING = ("timeZone", "overlap", "misfire", "jitter", "misfireDeadline", "startAfter", "endAt", "maxRuns")
_TIMES = ("startAt", "expiration", "startAfter", "endAt")
_CRONS = ("@hourly", "0 3 * * *", "*/5 * * * 1-5", "H H 1 * *", "0 0 L * *", "@every 90s")


def document() -> dict[str, Any]:
    """The document with answers closed: a field that it doesn't name is a mistake here, if not to a client."""
    made = copy.deepcopy(Document(load_comments(), version="0").build())
    for schema in made["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    made["paths"] = {path: verbs for path, verbs in made["paths"].items() if not _ENDLESS.search(path)}
    return made


def config(operations: int) -> SchemathesisConfig:
    """All checks; the same cases for the same seed."""
    random_ones = max(_LEAST_RANDOM, (CASES - _AT_BORDERS) // operations)
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


def load() -> Any:
    """The schema, ready to make cases of."""
    made = document()
    count = sum(len(verbs) for verbs in made["paths"].values())
    schema = schemathesis.openapi.from_dict(made, config=config(count))
    schema.hook(map_case)
    return schema


def map_case(_context: Any, case: Any) -> Any:
    """Random specs nearly always break one of the rules that no schema can say; most of those here keep them."""
    if case.meta is not None and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        items = case.body["jobs"] if isinstance(case.body.get("jobs"), list) else [{"spec": case.body}]
        for item in items:
            spec = item.get("spec") if isinstance(item, dict) else None
            if isinstance(spec, dict) and "image" in spec and len(repr(spec)) % 4:
                _make_sensible(spec)
    return case


def _make_sensible(spec: dict[str, Any]) -> None:
    given = [name for name in _SCHEDULES if spec.get(name) is not None]
    kept = given[len(repr(spec)) % len(given)] if given else ""
    dropped = [*(name for name in given if name != kept), *(() if kept == "cron" else _OF_RECURRING)]
    dropped += [name for name in _TIMES if name != kept]
    for name in dropped:
        spec.pop(name, None)
    if kept == "cron":
        spec["cron"] = _CRONS[len(repr(spec)) % len(_CRONS)]
        spec.pop("timeZone", None)
    if kept == "startAt":
        spec["startAt"] = 1_700_000_000
    try:
        parse_image(spec["image"])
    except ValueError:
        spec["image"] = "busybox:1"
