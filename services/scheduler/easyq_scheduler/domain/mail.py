"""The words of an e-mail about a job's end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from easyq_scheduler.domain.notice import Notice, moment

_MOST_SUBJECT = 200
_COLOURS = {"SUCCEEDED": "#1a7f37", "STOPPED": "#57606a"}
_OTHERWISE = "#b42318"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """An e-mail without its envelope."""

    subject: str
    text: str
    html: str


def mail(notice: Notice, *, farm: str, stdout: str, stderr: str) -> Mail:
    """The message about an end; the outputs are the last lines, fit to be shown."""
    headline = f"{notice.task_id}: {notice.outcome}{_code(notice)}"
    facts = _facts(notice)
    outputs = [(name, text) for name, text in (("stdout", stdout), ("stderr", stderr)) if text]
    return Mail(
        subject=f"[{farm}] {headline}"[:_MOST_SUBJECT],
        text=_text(headline, facts, outputs),
        html=_html(headline, facts, outputs, notice),
    )


def _code(notice: Notice) -> str:
    return f" (exit code {notice.exit_code})" if notice.exit_code else ""


def _facts(notice: Notice) -> list[tuple[str, str]]:
    facts = [
        ("Task", notice.task_id),
        ("Job", notice.job_id),
        ("Execution", f"{notice.execution_id} (attempt {notice.attempt})"),
        ("Image", notice.image),
        ("Outcome", notice.outcome),
    ]
    if notice.exit_code is not None:
        facts.append(("Exit code", str(notice.exit_code)))
    if notice.message:
        facts.append(("Error", f"{notice.message} ({notice.reason})" if notice.reason else notice.message))
    if notice.fire_ms is not None:
        facts.append(("Fire of", moment(notice.fire_ms)))
    if notice.started_ms is not None:
        facts.append(("Started", moment(notice.started_ms)))
    facts.append(("Ended", moment(notice.ended_ms)))
    if notice.ran_seconds is not None:
        # Stamps of an engine may be one, or in the wrong order: nothing takes no time.
        ran = f"{notice.ran_seconds:.3f} s" if notice.ran_seconds >= 0.001 else "less than 1 ms"
        facts.append(("Ran for", ran))
    if notice.link:
        facts.append(("Link", notice.link))
    return facts


def _text(headline: str, facts: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> str:
    lines = [headline, "", *(f"{name + ':':<11}{value}" for name, value in facts)]
    for name, text in outputs:
        title = f"Last lines of {name}"
        lines += ["", title, "-" * len(title), text]
    return "\n".join(lines) + "\n"


def _html(headline: str, facts: list[tuple[str, str]], outputs: list[tuple[str, str]], notice: Notice) -> str:
    colour = _COLOURS.get(notice.outcome, _OTHERWISE)
    rows = "".join(
        '<tr><th style="text-align:left;vertical-align:top;padding:2px 16px 2px 0;font-weight:600">'
        f'{escape(name)}</th><td style="padding:2px 0;word-break:break-word">{_value(name, value)}</td></tr>'
        for name, value in facts
    )
    logs = "".join(
        f'<h2 style="font-size:14px;margin:20px 0 6px">Last lines of {escape(name)}</h2>'
        '<pre style="background:#f6f8fa;color:#1f2328;border:1px solid #d0d7de;border-radius:6px;padding:10px;'
        f'white-space:pre-wrap;word-break:break-word;font-size:12px;margin:0">{escape(text)}</pre>'
        for name, text in outputs
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>'
        f'{escape(headline)}</title></head><body style="font-family:system-ui,-apple-system,sans-serif;font-size:14px;'
        f'line-height:1.45;margin:16px"><h1 style="font-size:18px;margin:0 0 12px;color:{colour}">'
        f"{escape(headline)}</h1>"
        f'<table role="presentation" style="border-collapse:collapse">{rows}</table>{logs}</body></html>\n'
    )


def _value(name: str, value: str) -> str:
    if name == "Link":
        return f'<a href="{escape(value)}">{escape(value)}</a>'
    return escape(value)
