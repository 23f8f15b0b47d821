"""Jobs and executions for people. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.table import Cell, Column, Screen, pairs, render, wrap
from easyq.client import ENDED
from easyq.v1.job_pb2 import Execution, Failure, Job, Skip, Trigger, Waiting
from easyq.v1.job_service_pb2 import GetScheduleResponse
from easyq.v1.spec_pb2 import JobSpec, ReportFailure

#: States of jobs that go on.
OPEN = (Job.SCHEDULED, Job.QUEUED, Job.RUNNING, Job.RETRYING, Job.ACTIVE, Job.PAUSED)

_STYLES = {
    "RUNNING": "busy",
    "ASSIGNED": "busy",
    "ACTIVE": "busy",
    "SUCCEEDED": "good",
    "FAILED": "bad",
    "TIMED_OUT": "bad",
    "LOST": "bad",
    "RETRYING": "warn",
    "EXPIRED": "warn",
    "STOPPED": "dim",
    "PAUSED": "warn",
}
_MOST_FIRES = 3


def job_state(job: Job) -> Cell:
    """The state by name."""
    return state_cell(Job.State.Name(job.state) if job.state in Job.State.values() else str(int(job.state)))


def execution_state(state: Execution.State.ValueType) -> Cell:
    """The state by name."""
    return state_cell(Execution.State.Name(state) if state in Execution.State.values() else str(int(state)))


def state_cell(name: str) -> Cell:
    """The name of a state in its colour."""
    return Cell(name, _STYLES.get(name, ""))


def jobs_view(jobs: Sequence[Job], now: float, *, wide: bool, nothing: str, more: str = "") -> View:
    """A list of jobs. `nothing` is said where there are none, `more` where the list was cut."""

    def lines(screen: Screen) -> list[str]:
        if not jobs:
            return [nothing]
        columns = [Column("JOB"), Column("TASK", cut=True), Column("STATE"), Column("AGE", right=True)]
        columns += [Column("NEXT", right=True, drop=3), Column("IMAGE", cut=True, drop=4)]
        columns.append(Column("COMMAND", cut=True, drop=2))
        if wide:
            columns += [Column("RUNS", right=True), Column("CREATED"), Column("LABELS", cut=True)]
        columns.append(Column("REMARK", cut=True, drop=1))
        rows = [_job_row(job, now, wide=wide) for job in jobs]
        return [*render(columns, rows, screen), *([more] if more else [])]

    return View({"items": [to_tree(job) for job in jobs]}, lines)


def _job_row(job: Job, now: float, *, wide: bool) -> list[str | Cell]:
    due = job.HasField("next_run_at") and job.state not in ENDED and words.seconds_of(job.next_run_at) > now
    row: list[str | Cell] = [
        job.job_id,
        job.task_id,
        job_state(job),
        words.span(now - words.seconds_of(job.created_at)),
        words.span(words.seconds_of(job.next_run_at) - now) if due else words.NONE,
        job.spec.image,
        words.command_line(job.spec.command),
    ]
    if wide:
        labels = ",".join(f"{key}={value}" for key, value in sorted(job.spec.labels.items()))
        row += [str(job.execution_count), words.exact(job.created_at), labels or words.NONE]
    return [*row, remark(job)]


_TOLD = frozenset({Job.RETRYING, Job.FAILED, Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED})


def remark(job: Job) -> str:
    """Why it waits, or why it failed; empty where there is nothing to say. What an attempt failed of is said until
    the next one is queued."""
    if job.HasField("stop_requested_at") and job.state not in ENDED:
        return "is being stopped"
    if job.HasField("error") and job.state in _TOLD:
        return failure(job.error)
    return waiting(job.waiting) if job.HasField("waiting") else ""


def failure(error: Failure) -> str:
    """A failure in words."""
    return error.message or Failure.Reason.Name(error.reason)


def waiting(why: Waiting) -> str:
    """A reason to wait in words."""
    return why.message or (Waiting.Reason.Name(why.reason) if why.reason in Waiting.Reason.values() else "waits")


def job_view(job: Job, now: float) -> View:
    """One job with its executions. The last look, where it has ended."""
    return View(to_tree(job), lambda screen: _job_lines(job, now, screen), last=job.state in ENDED)


def _job_lines(job: Job, now: float, screen: Screen) -> list[str]:
    rows: list[tuple[str, str | Cell]] = [
        ("Job", job.job_id),
        ("Task", job.task_id),
        ("State", job_state(job)),
    ]
    if text := remark(job):
        rows.append(("Why", text))
    rows.append(("Created", words.both(job.created_at, now)))
    if job.HasField("next_run_at") and job.state not in ENDED:
        rows.append(("Next run", words.both(job.next_run_at, now)))
    if job.revision > 1:
        rows.append(("Revision", f"{job.revision}, of {words.both(job.last_modified_at, now)}"))
    if job.idempotency_key:
        rows.append(("Idempotency key", job.idempotency_key))
    lines = pairs([*rows, *spec_rows(job.spec)], screen)
    if job.executions:
        lines += ["", *executions_lines(job.executions, now, screen)]
        if job.execution_count > len(job.executions):
            lines.append(f"(the newest {len(job.executions)} of {job.execution_count:,})")
    return lines


def spec_rows(spec: JobSpec) -> list[tuple[str, str | Cell]]:
    """What a job asks for, but for what it leaves to the defaults that everybody knows."""
    rows: list[tuple[str, str | Cell]] = [("Image", spec.image)]
    if spec.entrypoint:
        rows.append(("Entrypoint", words.command_line(spec.entrypoint)))
    rows.append(("Command", words.command_line(spec.command) if spec.command else "the image's own"))
    if spec.WhichOneof("schedule") == "cron":
        rows.append(("Schedule", f"{spec.cron}  ({spec.time_zone or 'UTC'})"))
    for name, values in (("Env", spec.envs), ("Labels", spec.labels), ("Agent labels", spec.agent_labels)):
        rows += [
            (name if not index else "", f"{key}={value}") for index, (key, value) in enumerate(sorted(values.items()))
        ]
    if spec.HasField("timeout"):
        rows.append(("Timeout", words.lasting(spec.timeout)))
    if spec.retries:
        rows.append(("Retries", str(spec.retries)))
    if spec.priority:
        rows.append(("Priority", str(spec.priority)))
    if spec.HasField("report_failure"):
        rows.append(("Report failure", ReportFailure.Mode.Name(spec.report_failure)))
    for name, text in (("Workdir", spec.workdir), ("User", spec.user), ("Network", spec.network)):
        if text:
            rows.append((name, text))
    asked = [
        f"{spec.resources.cpus:g} cpus" if spec.resources.cpus else "",
        f"{words.size(spec.resources.memory)} of memory" if spec.resources.memory else "",
        f"{spec.resources.gpus} GPUs" if spec.resources.gpus else "",
    ]
    if any(asked):
        rows.append(("Resources", ", ".join(one for one in asked if one)))
    return rows


def executions_lines(executions: Sequence[Execution], now: float, screen: Screen) -> list[str]:
    """A table of executions, newest first."""
    columns = [
        Column("EXECUTION"),
        Column("TRY", right=True),
        Column("BY"),
        Column("STATE"),
        Column("EXIT", right=True),
    ]
    columns += [Column("WAITED", right=True, drop=2), Column("RAN", right=True), Column("HOST", cut=True, drop=3)]
    columns.append(Column("REMARK", cut=True, drop=1))
    return render(columns, [_execution_row(one, now) for one in reversed(executions)], screen)


def _execution_row(one: Execution, now: float) -> list[str | Cell]:
    ended = one.HasField("finished_at")
    started = words.seconds_of(one.started_at) if one.HasField("started_at") else None
    ran = None if started is None else (words.seconds_of(one.finished_at) if ended else now) - started
    queued = words.seconds_of(one.queued_at) if one.HasField("queued_at") else None
    waited = None if queued is None else (started if started is not None else None if ended else now)
    text = failure(one.error) if one.HasField("error") else waiting(one.waiting) if one.HasField("waiting") else ""
    return [
        one.execution_id,
        str(one.attempt),
        trigger(one.trigger),
        execution_state(one.state),
        str(one.exit_code) if one.HasField("exit_code") else words.NONE,
        words.span(waited - queued) if waited is not None and queued is not None else words.NONE,
        words.span(ran) if ran is not None else words.NONE,
        one.host or words.NONE,
        text,
    ]


def trigger(kind: Trigger.Kind.ValueType) -> str:
    """Why an execution was made, in a word."""
    return Trigger.Kind.Name(kind).lower().replace("_", "-") if kind and kind in Trigger.Kind.values() else words.NONE


def execution_view(one: Execution, now: float) -> View:
    """One execution."""

    def lines(screen: Screen) -> list[str]:
        rows: list[tuple[str, str | Cell]] = [
            ("Execution", one.execution_id),
            ("Job", one.job_id),
            ("Task", one.task_id),
            ("Attempt", f"{one.attempt}, by {trigger(one.trigger)}"),
            ("State", execution_state(one.state)),
        ]
        if one.HasField("exit_code"):
            rows.append(("Exit code", str(one.exit_code)))
        if one.HasField("error"):
            rows.append(("Why", failure(one.error)))
        if one.HasField("waiting"):
            rows.append(("Why", waiting(one.waiting)))
        if one.host:
            rows.append(("Host", one.host))
        if one.image:
            rows += [("Image", one.image), ("Command", words.command_line(one.command))]
        if one.image_digest:
            rows.append(("Digest", one.image_digest))
        if one.container_id:
            rows.append(("Container", one.container_id))
        for name, field in _TIMES:
            if one.HasField(field):  # type: ignore[arg-type]
                rows.append((name, words.both(getattr(one, field), now)))
        rows.append(("Output", _output(one)))
        return pairs(rows, screen)

    return View(to_tree(one), lines, last=one.state >= Execution.SUCCEEDED)


_TIMES = (
    ("Fire", "fire_at"),
    ("Due", "due_at"),
    ("Queued", "queued_at"),
    ("Assigned", "assigned_at"),
    ("Started", "started_at"),
    ("Finished", "finished_at"),
    ("Stop asked", "stop_requested_at"),
)


def _output(one: Execution) -> str:
    if one.HasField("logs_removed_at"):
        return "removed by retention"
    cut = " (beyond its log limit output was dropped)" if one.stdout_truncated or one.stderr_truncated else ""
    return f"{words.size(one.stdout_bytes)} stdout, {words.size(one.stderr_bytes)} stderr{cut}"


def schedule_view(found: GetScheduleResponse, now: float) -> View:
    """A recurring job's schedule, with its coming fires."""

    def lines(screen: Screen) -> list[str]:
        told = found.schedule
        name = Job.State.Name(found.state) if found.state in Job.State.values() else str(int(found.state))
        rows: list[tuple[str, str | Cell]] = [
            ("Job", found.job_id),
            ("Task", found.task_id),
            ("State", state_cell(name)),
            ("Schedule", f"{found.cron}  ({found.time_zone or 'UTC'})"),
            ("Fires", f"{told.runs:,} ran, {told.skipped:,} skipped"),
        ]
        if told.HasField("paused_at"):
            rows.append(("Paused", words.both(told.paused_at, now)))
        title = "Next" if found.state != Job.PAUSED else "After a resume"
        for index, time in enumerate(found.next_fires):
            rows.append((title if not index else "", words.both(time, now)))
        if not found.next_fires:
            rows.append((title, "nothing follows"))
        text = pairs(rows, screen)
        if told.skips:
            text += ["", "Skipped lately:"]
            text += [f"  {_skip(one, now)}" for one in reversed(told.skips)]
        return text

    return View(to_tree(found), lines)


def _skip(one: Skip, now: float) -> str:
    reason = Skip.Reason.Name(one.reason) if one.reason in Skip.Reason.values() else str(int(one.reason))
    until = f" to {words.exact(one.last)}" if one.count > 1 else ""
    return f"{words.count(one.count, 'fire')}, {reason}: {words.exact(one.first)}{until} ({words.ago(one.last, now)})"


def schedules_view(jobs: Sequence[Job], now: float) -> View:
    """All recurring jobs, the next to fire first."""
    far = float("inf")
    order = sorted(jobs, key=lambda job: words.seconds_of(job.next_run_at) if job.HasField("next_run_at") else far)

    def lines(screen: Screen) -> list[str]:
        if not order:
            return ["no job recurs; `easyq submit --cron '@daily' IMAGE` or `easyq apply -f jobs.yaml` makes one"]
        columns = [Column("JOB"), Column("TASK", cut=True), Column("STATE"), Column("SCHEDULE"), Column("ZONE")]
        columns += [Column("NEXT", right=True), Column("RAN", right=True), Column("SKIPPED", right=True)]
        columns += [Column("IMAGE", cut=True, drop=2), Column("COMMAND", cut=True, drop=1)]
        rows: list[list[str | Cell]] = [
            [
                job.job_id,
                job.task_id,
                job_state(job),
                job.spec.cron,
                job.spec.time_zone or "UTC",
                words.span(words.seconds_of(job.next_run_at) - now) if job.HasField("next_run_at") else words.NONE,
                str(job.schedule.runs),
                str(job.schedule.skipped),
                job.spec.image,
                words.command_line(job.spec.command),
            ]
            for job in order
        ]
        return render(columns, rows, screen)

    return View({"items": [to_tree(job) for job in order]}, lines)


def wrapped(text: str, screen: Screen, indent: str = "") -> list[str]:
    """A sentence over as many lines as it needs."""
    room = None if screen.columns is None else max(20, screen.columns - len(indent))
    return [indent + line for line in wrap(text, room)]
