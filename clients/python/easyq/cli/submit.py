"""`easyq submit`: enqueue and leave; one job from the command line, or many from a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from easyq.cli import completions, exits, interrupts
from easyq.cli.enums import REPORTS, EnumName
from easyq.cli.frame import (
    Out,
    Server,
    View,
    duration,
    fail,
    named,
    pairs_of,
    read_file,
    tell,
    text_only,
    with_output,
    with_server,
)
from easyq.cli.stdio import is_terminal, progress, say, stdout_is_terminal, words_of

if TYPE_CHECKING:
    from easyq.backlog import Submitted
    from easyq.cli.tree import Node
    from easyq.client import Client
    from easyq.v1.job_service_pb2 import BatchItem
    from easyq.v1.spec_pb2 import JobSpec

_LINES = (".jsonl", ".ndjson")
_TELL_EVERY = 0.2


@click.command(short_help="Enqueue a job, or many from a file, and leave.")
@click.argument("image", required=False, callback=named)
@click.argument("command", metavar="[--] [COMMAND]...", nargs=-1, type=click.UNPROCESSED, callback=text_only)
@click.option(
    "-f",
    "--file",
    "file",
    metavar="FILE",
    help="Enqueue the jobs of a file (YAML, JSON, or JSON lines; - is stdin, of JSON lines).",
)
@click.option(
    "-t",
    "--task",
    default="run",
    show_default=True,
    callback=named,
    shell_complete=completions.tasks,
    help="Task to enqueue under.",
)
@click.option("-e", "--env", multiple=True, metavar="K=V", help="Set a variable; K alone takes it from here.")
@click.option(
    "--env-file",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read variables from a file.",
)
@click.option("--at", metavar="TIME", callback=text_only, help="Run at a time: 2030-01-31T08:00:00Z.")
@click.option("--in", "in_", metavar="DURATION", callback=duration, help="Run after a while: 90s, 2h30m.")
@click.option("--cron", metavar="EXPR", callback=text_only, help="Recur: '0 3 * * *', '@every 90s', '@daily'.")
@click.option("--tz", default="", metavar="ZONE", callback=text_only, help="Zone of --cron, as Europe/Berlin.")
@click.option("--timeout", metavar="DURATION", callback=duration, help="Longest run time.")
@click.option("--retries", type=click.IntRange(0, 1000), help="Further attempts after a failure.  [default: 0]")
@click.option("--priority", type=click.IntRange(-100, 100), help="Order within its task, higher first.  [default: 0]")
@click.option("-l", "--label", multiple=True, callback=pairs_of, metavar="KEY=VALUE", help="A label.  Repeatable.")
@click.option("--entrypoint", callback=text_only, help="Replace the image's ENTRYPOINT (one word).")
@click.option("--workdir", default="", callback=text_only, help="Working directory in the container.")
@click.option("-u", "--user", default="", callback=text_only, help="User: name or uid, optionally :group.")
@click.option("--network", default="", callback=text_only, help="Network to join.")
@click.option(
    "--report-failure",
    type=EnumName(REPORTS),
    help="Which failures the farm's error handlers are told: none, final (the job's), all.  [default: the farm's]",
)
@click.option("--key", metavar="KEY", callback=named, help="Idempotency key: the same one again enqueues nothing.")
@click.option("--dry-run", is_flag=True, help="Check it, and show what would be enqueued.")
@with_output()
@with_server
def submit(*, server: Server, out: Out, file: str | None, image: str | None, dry_run: bool, **options: Any) -> None:
    """Enqueue a job and print its id, without waiting for it: `easyq logs -f ID` follows it.

    With -f: many jobs, each accepted or refused on its own. An item is an object with `spec` (as REST has it), and
    `taskId` and `idempotencyKey` where you like; a file is a list of items, or an object with such a list as `jobs`.
    """
    if (file is None) == (image is None):
        fail("name an image, or a file by -f; not both", exits.USAGE)
    if file is not None:
        if dry_run:
            fail("--dry-run is for one job; `easyq apply --dry-run` checks a file", exits.USAGE)
        _many(server, out, file, options["task"])
        return
    spec = _spec(image or "", **options)
    with server.calling() as client:
        from easyq.cli.document import to_tree

        if dry_run:
            _check(client, out, spec, options["task"])
            return
        with interrupts.leaving_with(lambda: say("left before an answer came; the job may have been accepted")):
            answer = client.submit(spec, task=options["task"], idempotency_key=options["key"])
        out.print(View(to_tree(answer), lambda _screen: [answer.job_id]), otherwise=f"job {answer.job_id} was enqueued")


def _check(client: Client, out: Out, spec: JobSpec, task: str) -> None:
    from easyq.cli import words
    from easyq.cli.document import to_tree
    from easyq.cli.job_views import spec_rows
    from easyq.cli.table import pairs

    answer = client.validate(spec, task=task)
    now = time.time()
    fires = [("Next" if not index else "", words.both(fire, now)) for index, fire in enumerate(answer.next_fires)]
    out.print(View(to_tree(answer), lambda screen: pairs([("Task", task), *spec_rows(answer.spec), *fires], screen)))


def _spec(image: str, **options: Any) -> JobSpec:
    import os

    from easyq.cli.env import EnvError, collect
    from easyq.spec import job_spec

    times = [name for name in ("at", "in_", "cron") if options[name] is not None]
    if len(times) > 1:
        fail(f"{' and '.join('--' + name.strip('_') for name in times)} exclude each other", exits.USAGE)
    if options["tz"] and options["cron"] is None:
        fail("--tz says how --cron is read; give both", exits.USAGE)
    try:
        envs = collect([(str(path), read_file(str(path))) for path in options["env_file"]], options["env"], os.environ)
        spec = job_spec(
            image,
            options["command"],
            entrypoint=[options["entrypoint"]] if options["entrypoint"] else [],
            envs=envs,
            labels=options["label"],
            cron=options["cron"],
            time_zone=options["tz"],
            retries=options["retries"],
            priority=options["priority"],
            workdir=options["workdir"],
            user=options["user"],
            network=options["network"],
            report_failure=options["report_failure"],
        )
        if options["timeout"] is not None:
            spec.timeout.FromMilliseconds(options["timeout"])
        if options["in_"] is not None:
            spec.start_in.FromMilliseconds(options["in_"])
        if options["at"] is not None:
            _set_time(spec, options["at"])
    except (EnvError, ValueError) as error:
        fail(str(error), exits.USAGE)
    return spec


def _set_time(spec: JobSpec, text: str) -> None:
    try:
        spec.start_at.FromJsonString(text)
    except ValueError:
        fail(f"--at {text!r} is not a time with an offset, as 2030-01-31T08:00:00Z or 2030-01-31T08:00:00+01:00", 2)


# ------------------------------------------------------------------------------------------------------- many at once


@dataclass(slots=True)
class _Tally:
    """How far it is."""

    shown: bool
    began: float = field(default_factory=time.monotonic)
    accepted: int = 0
    refused: int = 0
    #: Given to the client, which may have sent them, and not answered yet.
    under_way: int = 0
    _told: float = 0.0

    def tell(self) -> None:
        now = time.monotonic()
        if self.shown and now - self._told > _TELL_EVERY:
            self._told = now
            rate = self.accepted / max(now - self.began, 0.001)
            refused = f", {self.refused:,} refused" if self.refused else ""
            progress(f"easyq: {self.accepted:,} accepted{refused} ({rate:,.0f}/s)")

    def say(self, text: str) -> None:
        if self.shown:
            progress("")
        say(text)

    @property
    def begun(self) -> bool:
        return bool(self.accepted or self.refused or self.under_way)

    def finish(self) -> None:
        self.say(self._so_far())

    def leave(self) -> None:
        """Says what is true where it ends before all are answered."""
        more = f"; up to {self.under_way:,} more may have been accepted" if self.under_way else ""
        self.say(f"{self._so_far()}{more}")

    def _so_far(self) -> str:
        return f"{self.accepted:,} accepted, {self.refused:,} refused"

    def giving(self, items: Iterable[BatchItem]) -> Iterator[BatchItem]:
        """The items, counted as they are taken."""
        for item in items:
            self.under_way += 1
            yield item


def _many(server: Server, out: Out, file: str, task: str) -> None:
    from easyq.cli.document import to_json

    lines: dict[str, int] = {}
    # Where ids scroll by, they tell how far it is.
    tally = _Tally(shown=is_terminal() and not stdout_is_terminal())
    items = _streamed(file, task, lines, tally) if _is_streamed(file) else iter(_whole(file, task, lines))
    collected = []
    with server.calling() as client, _leaving(tally):
        for result in client.submit_many(tally.giving(items), task=task):
            tally.under_way -= 1
            line = lines.pop(result.item.idempotency_key, 0)
            if result.error is not None:
                tally.refused += 1
                tally.say(f"{_place(file, line)}: {_refusal(result)}")
            else:
                tally.accepted += 1
            job_id = result.job.job_id if result.job is not None else ""
            kept = f"job {job_id} was enqueued" if job_id else ""
            if out.for_people and job_id:
                tell(job_id, otherwise=kept)
            elif out.format == "json":
                tell(to_json(_result(result, line), compact=True), otherwise=kept)
            elif out.format == "yaml":
                collected.append(_result(result, line))
            tally.tell()
        if out.format == "yaml":
            out.print(View(collected, lambda _screen: []))
    tally.finish()
    sys.exit(exits.FAILED if tally.refused else exits.OK)


@contextmanager
def _leaving(tally: _Tally) -> Iterator[None]:
    """Whatever ends it early (a signal, an outage, a stdout that is gone), it is told what came of the jobs so far."""
    try:
        with interrupts.leaving_with(tally.leave):
            yield
    except BaseException:
        if tally.begun:
            tally.leave()
        raise


def _result(result: Submitted, line: int) -> dict[str, Any]:
    from easyq.cli.document import to_tree

    error = result.error
    return {
        "index": result.index,
        "line": line or None,
        "job": to_tree(result.job) if result.job is not None else None,
        "error": None
        if error is None
        else {
            "code": error.code,
            "reason": error.reason,
            "message": error.message,
            "fields": [{"field": one.field, "message": one.message} for one in error.fields],
        },
    }


def _refusal(result: Submitted) -> str:
    from easyq.cli.sentences import sentence

    return "" if result.error is None else sentence(result.error).replace("item.spec.", "spec.")


def _place(file: str, line: int) -> str:
    name = "stdin" if file == "-" else file
    return f"{name}:{line}" if line else name


def _is_streamed(file: str) -> bool:
    return file == "-" or file.endswith(_LINES)


def _streamed(file: str, task: str, lines: dict[str, int], tally: _Tally) -> Iterator[BatchItem]:
    """Items of a file of JSON lines, as they come; what is wrong is told, and counts as refused."""
    try:
        source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed with the process
        yield from _items(source, file, task, lines, tally)
    except OSError as error:
        fail(f"{_place(file, 0)}: {words_of(error)}", exits.USAGE)


def _items(source: Iterable[bytes], file: str, task: str, lines: dict[str, int], tally: _Tally) -> Iterator[BatchItem]:
    from easyq.cli.tree import TreeError, parse_line

    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            item, wrong = _item(parse_line(line, number), task, lines)
        except TreeError as error:
            item, wrong = None, [f"{_place(file, error.line)}: {error.message}"]
        for text in wrong:
            tally.say(text.replace("FILE", _place(file, number), 1))
        if item is None:
            tally.refused += 1
        else:
            yield item


def _whole(file: str, task: str, lines: dict[str, int]) -> list[BatchItem]:
    """Items of a file, all of which must be sound before any is sent."""
    from easyq.cli.tree import TreeError, parse

    try:
        documents = parse(read_file(file))
    except TreeError as error:
        fail(f"{_place(file, error.line)}: {error.message}", exits.USAGE)
    nodes: list[Node] = []
    for document in documents:
        inner = document.get("jobs") if document.kind == "object" else document
        nodes += inner.items if inner is not None and inner.kind == "list" else [document]
    found, wrong = [], []
    for node in nodes:
        item, problems = _item(node, task, lines)
        wrong += [text.replace("FILE", _place(file, node.line), 1) for text in problems]
        if item is not None:
            found.append(item)
    if wrong:
        for text in wrong[:20]:
            say(text)
        fail(f"{file}: nothing was enqueued, since {len(wrong)} of its fields are wrong", exits.USAGE)
    return found


_KEYS = ("taskId", "idempotencyKey", "spec")


def _item(node: Node, task: str, lines: dict[str, int]) -> tuple[BatchItem | None, list[str]]:
    """One item, and what is wrong with it, each with FILE for its place."""
    import uuid

    from easyq.cli.reading_specs import Reading, read_spec
    from easyq.v1.job_service_pb2 import BatchItem as Kind

    if node.kind != "object":
        return None, ["FILE: must be an object with a `spec`"]
    unknown = [key for key in node.keys if key not in _KEYS]
    if unknown:
        hint = "; jobs with ids of their own are for `easyq apply`" if "jobId" in unknown else ""
        return None, [f"FILE: `{unknown[0]}` is none of {', '.join(_KEYS)}{hint}"]
    spec = node.get("spec")
    if spec is None:
        return None, ["FILE: has no `spec`"]
    reading = Reading()
    made = read_spec(spec, reading)
    if reading.wrong:
        return None, [f"FILE: {one.path}: {one.message} (line {one.line})" for one in reading.wrong]
    name, key = node.get("taskId"), node.get("idempotencyKey")
    item = Kind(
        task_id=name.text if name is not None else task,
        spec=made,
        idempotency_key=key.text if key is not None else uuid.uuid4().hex,
    )
    lines[item.idempotency_key] = node.line
    return item, []
