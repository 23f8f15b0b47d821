"""Run again with changes: the spec as a form, and the form as a spec."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.codec.json_text import JsonObject, Malformed, parse_json
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.shell_words import join_words
from easyq_gateway.pages.rendering import without_nothing
from easyq_gateway.pages.sources import Sources
from easyq_gateway.pages.views.page import Page, Query

#: Fields of the form, each with the field of the spec that it sets.
FIELDS = {"image": "image", "command": "command", "envs": "envs", "timeout": "timeout", "retries": "retries"}
_ESCAPED = re.compile(r"\\([\\n])")
# What a copy that runs once, and now, has not.
_OF_TIME = frozenset(
    {
        "startAt", "startIn", "cron", "timeZone", "overlap", "misfire", "jitter", "expiration", "misfireDeadline",
        "startAfter", "endAt", "maxRuns",
    }
)  # fmt: skip


async def form(sources: Sources, _query: Query, job_id: str) -> Page:
    """`/admin/jobs/{jobId}/again`."""
    job = await sources.reading.get_job(job_service_pb2.GetJobRequest(job_id=job_id))
    return page(job, values_of(job.spec), {}, "")


def page(job: job_pb2.Job, values: Mapping[str, str], problems: Mapping[str, Sequence[str]], error: str) -> Page:
    """The form with values, and what is wrong with them."""
    context = {"job": job, "values": values, "problems": problems, "error": error}
    return Page(template="again", context=context, live=None, status=400 if problems or error else 200)


def values_of(spec: spec_pb2.JobSpec) -> dict[str, str]:
    """Returns what the form's fields have at first, of a spec whose secrets are hidden."""
    tree = without_nothing(to_tree(spec))
    command = tree.pop("command", [])
    envs: Mapping[str, str] = tree.pop("envs", {})
    rest = {name: value for name, value in tree.items() if name not in FIELDS and name not in _OF_TIME}
    return {
        "image": spec.image,
        "command": join_words(command),
        "envs": "\n".join(f"{name}={_one_line(value)}" for name, value in envs.items()),
        "timeout": str(tree.get("timeout", "")),
        "retries": str(spec.retries),
        "rest": json.dumps(rest, indent=2, ensure_ascii=False),
    }


def read(values: Mapping[str, str]) -> tuple[spec_pb2.JobSpec, Problems]:
    """Returns the spec that a form describes, and what is wrong with it; its paths are those of a request."""
    problems = Problems()
    tree = JsonObject([])
    rest = values.get("rest", "").strip()
    if rest:
        try:
            parsed = parse_json(rest.encode("utf-8", "surrogatepass"))
            if not isinstance(parsed, JsonObject):
                raise Malformed("is not a JSON object")
            tree = parsed
        except Malformed as error:
            problems.add("spec.rest", str(error))
    for name in FIELDS:
        if name in tree:
            problems.add("spec.rest", f"has {name}, which has a field of its own")
            del tree[name]
    for name in ("image", "command", "timeout"):
        if values.get(name, "").strip():
            tree[name] = values[name].strip()
    tree["envs"] = _envs(values.get("envs", ""), problems)
    retries = values.get("retries", "").strip()
    spec = spec_pb2.JobSpec()
    if retries:
        if retries.isascii() and retries.isdigit() and len(retries) < 5:
            spec.retries = int(retries)
        else:
            problems.add("spec.retries", "must be a whole number")
    decode(tree, spec, "spec", problems)
    return spec, problems


def _envs(text: str, problems: Problems) -> JsonObject:
    envs = JsonObject([])
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals:
            problems.add("spec.envs", f"line {number} has no =")
        elif name.strip() in envs:
            problems.add("spec.envs", f"line {number} names {name.strip()[:64]} again")
        else:
            envs[name.strip()] = _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else "\\", value)
    return envs


def _one_line(value: str) -> str:
    """A value in one line: line ends as `\\n`, backslashes doubled."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def by_field(fields: Sequence[Any]) -> dict[str, list[str]]:
    """Returns the messages of an error's fields, each at the form's field that it is about."""
    found: dict[str, list[str]] = {}
    for one in fields:
        name = one.field.removeprefix("spec").lstrip(".")
        root = name.partition(".")[0].partition("[")[0]
        place = root if root in FIELDS else "rest"
        found.setdefault(place, []).append(one.message if place == root and name == root else f"{name} {one.message}")
    return found
