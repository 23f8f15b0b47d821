"""Files of `easyq apply`: jobs with ids of their own. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from easyq.cli.reading_specs import Reading, Wrong, read_spec
from easyq.cli.tree import Node, TreeError, parse
from easyq.v1.job_pb2 import Job
from easyq.v1.spec_pb2 import JobSpec

#: The label by which jobs that were applied are found again; its value is the set's name.
LABEL = "easyq/set"
#: What EasyQ shows instead of a secret.
REDACTED = "[redacted]"

_SET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ASKED = ("taskId", "jobId", "spec")
# What `easyq get -o yaml` gives beside these may stay in the file.
_SHOWN = frozenset(field.json_name for field in Job.DESCRIPTOR.fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One job as a file wants it, and where it stands."""

    file: str
    line: int
    task: str
    job_id: str
    spec: JobSpec
    reading: Reading

    def place(self, path: str = "") -> str:
        """`file:line` of a field, or of the job."""
        return f"{self.file}:{self.reading.line_of(path) or self.line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What all files together want. `set_name` is empty where none names a set."""

    set_name: str
    jobs: Sequence[Wanted]
    wrong: Sequence[str]


def read(files: Iterable[tuple[str, bytes]], set_name: str) -> Manifest:
    """Reads files (name, content); `set_name` is the command line's. Raises nothing: see `wrong`."""
    jobs: list[Wanted] = []
    wrong: list[str] = []
    for file, data in files:
        try:
            documents = parse(data)
            for document in documents:
                name = _set_of(document)
                if name and set_name and name != set_name:
                    wrong.append(f"{file}:{document.line}: the set is {name!r} here, and {set_name!r} elsewhere")
                set_name = set_name or name
                for node in _jobs_of(document):
                    found, told = _job(node, file)
                    wrong += told
                    jobs += [found] if found is not None else []
        except TreeError as error:
            wrong.append(f"{file}:{error.line}: {error.message}")
    wrong += _twice(jobs)
    if set_name:
        if not _SET.fullmatch(set_name):
            wrong.append(f"{set_name!r} can't name a set: letters, digits, `.`, `_` and `-`, at most 128")
        for job in jobs:
            job.spec.labels[LABEL] = set_name
    return Manifest(set_name=set_name, jobs=jobs, wrong=wrong)


def _set_of(document: Node) -> str:
    node = document.get("set") if document.kind == "object" else None
    return node.text if node is not None and node.kind == "str" else ""


def _jobs_of(document: Node) -> Iterator[Node]:
    if document.kind == "list":
        yield from document.items
        return
    if document.kind != "object":
        raise TreeError("must be an object with `jobs`, or a list of jobs", document.line)
    if "jobs" not in document.keys and "items" not in document.keys:
        yield document
        return
    for key, node in document.members():
        # `items` is what `easyq ps -o yaml` gives.
        if key in {"jobs", "items"}:
            if node.kind not in {"list", "null"}:
                raise TreeError(f"`{key}` must be a list", node.line)
            yield from node.items
        elif key != "set":
            raise TreeError(f"`{key}` is none of `jobs` and `set`", node.line)


def _job(node: Node, file: str) -> tuple[Wanted | None, list[str]]:
    at = f"{file}:{node.line}"
    if node.kind != "object":
        return None, [f"{at}: a job must be an object with {_listed(_ASKED)}"]
    wrong = [
        f"{file}:{one.line}: `{key}` is none of {_listed(_ASKED)}" for key, one in node.members() if key not in _SHOWN
    ]
    found = {key: node.get(key) for key in _ASKED}
    missing = [key for key, one in found.items() if one is None]
    if missing:
        return None, [*wrong, f"{at}: a job needs {_listed(missing)}"]
    task, job_id, spec = (found[key] for key in _ASKED)
    if task is None or job_id is None or spec is None:
        raise AssertionError("looked at above")
    wrong += [
        f"{file}:{one.line}: `{key}` must be a string"
        for key, one in (("taskId", task), ("jobId", job_id))
        if one.kind in {"list", "object"}
    ]
    reading = Reading()
    made = read_spec(spec, reading)
    for name, value in made.envs.items():
        if value == REDACTED:
            line = reading.line_of(f'spec.envs["{name}"]') or node.line
            text = "is what EasyQ shows instead of a secret; write the value itself"
            reading.wrong.append(Wrong(line=line, path=f'spec.envs["{name}"]', message=text))
    wrong += [f"{file}:{one.line}: {one.path}: {one.message}" for one in reading.wrong]
    wanted = Wanted(file=file, line=node.line, task=task.text, job_id=job_id.text, spec=made, reading=reading)
    return wanted, wrong


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _twice(jobs: Iterable[Wanted]) -> Iterator[str]:
    seen: dict[str, Wanted] = {}
    for job in jobs:
        first = seen.setdefault(job.job_id, job)
        if first is not job:
            yield f"{job.place()}: the job {job.job_id!r} stands at {first.place()} already"


def differences(before: Any, after: Any, path: str = "spec") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of whatever differs between two trees; None stands for what is not there."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            plain = str(key).isidentifier()
            below = f"{path}.{key}" if plain else f'{path}["{key}"]'
            yield from differences(before.get(key), after.get(key), below)
    elif before != after:
        yield path, before, after
