"""`easyq apply`: recurring jobs as files say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from easyq.cli import exits
from easyq.cli.frame import Out, Server, View, fail, read_file, told, with_output, with_server
from easyq.cli.stdio import say
from easyq.cli.table import Screen, paint

if TYPE_CHECKING:
    from easyq.cli.manifest import Manifest, Wanted
    from easyq.client import Client
    from easyq.v1.job_pb2 import Job

_MARKS = {"created": ("+", "good"), "changed": ("~", "warn"), "unchanged": ("=", "dim"), "stopped": ("-", "bad")}
_FAILED = ("!", "bad")
_FUTURE = {"created": "would be created", "changed": "would be changed", "stopped": "would be stopped"}
_LONGEST = 200
# Seconds for what a server may add to what is wrong already.
_LOOK = 5.0


@dataclass(kw_only=True, slots=True)
class _Done:
    """What became, or would become, of one job."""

    task: str
    job_id: str
    action: str
    changes: Sequence[tuple[str, Any, Any]] = ()
    error: str = ""
    code: int = exits.OK
    notes: list[str] = field(default_factory=list)


@click.command(short_help="Create or update the jobs of files; --dry-run shows what would change.")
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", help="YAML or JSON; - is stdin.")
@click.option("--set", "set_name", default="", metavar="NAME", help="Name of the set that these jobs are.")
@click.option("--prune", is_flag=True, help="Stop jobs of the set that are in none of the files.")
@click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
@with_output()
@with_server
def apply(*, server: Server, out: Out, files: tuple[str, ...], set_name: str, prune: bool, dry_run: bool) -> None:
    """Create or update jobs that have ids of their own, recurring ones above all, as files say. The same files again
    change nothing. All of it is checked first: where anything is wrong nothing is changed.

    \b
    set: reports            # names the set; needed for --prune
    jobs:
      - taskId: reports
        jobId: nightly
        spec:
          image: registry.example.com/reports:7
          command: make-report --all
          cron: "0 3 * * *"
          timeZone: Europe/Berlin

    With a set, each job gets the label easyq/set=NAME. --prune stops jobs with that label that are in none of the
    files; others are never touched, and a job of another set is refused.
    """
    from easyq.cli.manifest import read

    manifest = read([("stdin" if name == "-" else name, read_file(name)) for name in files], set_name)
    if manifest.wrong:
        _refuse([*manifest.wrong, *_wrong_too(server, manifest)])
    if prune and not manifest.set_name:
        fail("--prune needs the set's name: `set: NAME` in the file, or --set NAME", exits.USAGE)
    with server.calling() as client:
        known = {job.job_id: _known(client, job) for job in manifest.jobs}
        resolved = _checked(client, manifest, known)
        done = [
            _planned(job, known[job.job_id], resolved[job.job_id])
            if dry_run
            else _applied(client, job, known, resolved)
            for job in manifest.jobs
        ]
        if prune:
            done += _pruned(client, manifest, dry_run=dry_run)
    out.print(_view(done, dry_run=dry_run))
    sys.exit(exits.worst([one.code for one in done]))


def _wrong_too(server: Server, manifest: Manifest) -> list[str]:
    """What the server finds wrong beside what is wrong with the files already, so that one look tells all; nothing
    where it can't be asked."""
    from easyq.cli.contexts import ContextError
    from easyq.client import Client
    from easyq.errors import EasyQError

    wrong: list[str] = []
    try:
        with Client(server.find().server, repeats=False, timeout=_LOOK) as client:
            for job in manifest.jobs:
                # A field that could not be read was not sent, so that nothing the server says of it, or of what it
                # belongs to, is of use.
                unread = [*(one.path for one in job.reading.wrong), *([] if job.task else ["taskId"])]
                wrong += [
                    _worded(job, path, text)
                    for path, text in _problems(client, job)
                    if not any(_is_about(path, one) for one in unread)
                ]
    except (EasyQError, ContextError):
        pass
    return wrong


def _problems(client: Client, job: Wanted) -> list[tuple[str, str]]:
    """Path and words of whatever the server would refuse."""
    from easyq.errors import InvalidArgument

    try:
        client.validate(job.spec, task=job.task)
    except InvalidArgument as error:
        return [(one.field, one.message) for one in error.fields] or [("", error.message)]
    return []


def _is_about(path: str, other: str) -> bool:
    """Whether one of two paths is the other, or stands within it."""
    short, long = sorted((path, other), key=len)
    return long.startswith(short) and long[len(short) :][:1] in {"", ".", "["}


def _worded(job: Wanted, path: str, text: str) -> str:
    return f"{job.place(path)}: {path + ': ' if path else ''}{text}"


def _refuse(wrong: Sequence[str]) -> None:
    for text in wrong[:20]:
        say(text)
    rest = f" ({len(wrong) - 20} more problems)" if len(wrong) > 20 else ""
    fail(f"nothing was changed{rest}", exits.USAGE)


def _known(client: Client, job: Wanted) -> Job | None:
    from easyq.errors import NotFound

    try:
        return client.get(job.job_id)
    except NotFound:
        return None


def _checked(client: Client, manifest: Manifest, known: dict[str, Job | None]) -> dict[str, Any]:
    """The specs with every default resolved, by job; ends the process where anything is wrong."""
    from easyq.cli.document import to_tree
    from easyq.cli.manifest import LABEL
    from easyq.errors import InvalidArgument

    resolved, wrong = {}, []
    for job in manifest.jobs:
        found = known[job.job_id]
        other = found.spec.labels.get(LABEL, "") if found is not None else ""
        if other and other != manifest.set_name:
            wrong.append(f"{job.place()}: the job {job.job_id!r} belongs to the set {other!r}")
        if found is not None and found.task_id != job.task:
            wrong.append(f"{job.place()}: the job {job.job_id!r} is one of the task {found.task_id!r}")
        try:
            resolved[job.job_id] = to_tree(client.validate(job.spec, task=job.task).spec)
        except InvalidArgument as error:
            fields = [(one.field, one.message) for one in error.fields] or [("", error.message)]
            wrong += [_worded(job, path, text) for path, text in fields]
    if wrong:
        _refuse(wrong)
    return resolved


def _planned(job: Wanted, found: Job | None, resolved: Any) -> _Done:
    from easyq.cli.document import to_tree
    from easyq.cli.manifest import differences

    if found is None:
        return _Done(task=job.task, job_id=job.job_id, action="created")
    changes = list(differences(to_tree(found.spec), resolved))
    if changes:
        return _Done(task=job.task, job_id=job.job_id, action="changed", changes=changes)
    return _Done(task=job.task, job_id=job.job_id, action="unchanged", notes=_notes(found))


def _applied(client: Client, job: Wanted, known: dict[str, Job | None], resolved: dict[str, Any]) -> _Done:
    from easyq.errors import EasyQError

    found = known[job.job_id]
    done = _planned(job, found, resolved[job.job_id])
    try:
        answer = client.put(job.job_id, job.spec, task=job.task)
    except EasyQError as error:
        done.action, done.error, done.code = "failed", told(error, client.server), exits.of_error(error.code)
        return done
    # A secret that changed is not seen in what the server shows, but in the revision.
    revised = found is None or answer.job.revision != found.revision
    done.action = "created" if answer.created else "changed" if revised else "unchanged"
    if done.action == "changed" and not done.changes:
        done.notes = ["a value that EasyQ keeps secret has changed"]
    else:
        done.notes = _notes(found) if found is not None and done.action == "unchanged" else []
    return done


def _notes(found: Job) -> list[str]:
    from easyq.cli.job_views import job_state
    from easyq.client import ENDED

    if found.state not in ENDED:
        return []
    # The same spec again changes nothing, so that it stays as it is.
    again = f"; to have it recur again: easyq delete {found.job_id}, then apply" if found.spec.cron else ""
    return [f"it is {job_state(found).text}{again}"]


def _pruned(client: Client, manifest: Manifest, *, dry_run: bool) -> list[_Done]:
    from easyq.cli.job_views import OPEN
    from easyq.cli.manifest import LABEL
    from easyq.errors import EasyQError, FailedPrecondition, NotFound

    wanted = {job.job_id for job in manifest.jobs}
    done = []
    for job in list(client.jobs(states=OPEN, labels={LABEL: manifest.set_name})):
        # Asked once more here: what this stops can't be taken back by a server that filters otherwise.
        if job.job_id in wanted or job.spec.labels.get(LABEL) != manifest.set_name:
            continue
        if job.HasField("stop_requested_at"):
            continue
        one = _Done(task=job.task_id, job_id=job.job_id, action="stopped")
        if not dry_run:
            try:
                client.stop(job.job_id)
            except (FailedPrecondition, NotFound):
                pass  # it ended meanwhile
            except EasyQError as error:
                one.action, one.error, one.code = "failed", told(error, client.server), exits.of_error(error.code)
        done.append(one)
    return done


def _view(done: Sequence[_Done], *, dry_run: bool) -> View:
    tree = {
        "dryRun": dry_run,
        "items": [
            {
                "taskId": one.task,
                "jobId": one.job_id,
                "action": one.action,
                "changes": [{"field": path, "before": old, "after": new} for path, old, new in one.changes],
                "error": one.error or None,
                "note": "; ".join(one.notes) or None,
            }
            for one in done
        ],
    }
    return View(tree, lambda screen: _lines(done, screen, dry_run=dry_run))


def _lines(done: Sequence[_Done], screen: Screen, *, dry_run: bool) -> list[str]:
    from easyq.cli.plain import plain

    lines = []
    for one in done:
        mark, style = _MARKS.get(one.action, _FAILED)
        words = _FUTURE.get(one.action, one.action) if dry_run else one.action
        why = f": {one.error}" if one.error else f" ({'; '.join(one.notes)})" if one.notes else ""
        head = f"{mark} {one.job_id} of {one.task} {words}{why}"
        lines.append(paint(plain(head), style, screen))
        if one.action == "changed":
            lines += [f"    {plain(path)}: {_shown(old)} → {_shown(new)}" for path, old, new in one.changes]
    if not done:
        lines.append("nothing to do: the files hold no jobs")
    return lines


def _shown(value: Any) -> str:
    from easyq.cli.document import to_json
    from easyq.cli.plain import clip, plain

    return "unset" if value is None else clip(plain(to_json(value, compact=True)), _LONGEST)
