"""The farm's status for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import wrapped
from easyq.cli.plain import plain
from easyq.cli.table import Cell, Column, Screen, render
from easyq.v1.farm_service_pb2 import OperationsPort, Status, Unknown


def status_view(found: Status) -> View:
    """One sentence, what is in the way, what can't be told, and the operations ports."""

    def lines(screen: Screen) -> list[str]:
        text = [_sentence(found)]
        for problem in found.problems:
            text += wrapped(plain(problem.message), screen, "  ")
        text += unknown_lines(found.unknown, screen, "  ")
        columns = [Column("SERVICE"), Column("INSTANCE", cut=True, drop=1), Column("OPERATIONS PORT")]
        columns += [Column("ALIVE"), Column("READY"), Column("WHY", cut=True)]
        if found.operations:
            text += ["", *render(columns, [_row(one) for one in found.operations], screen)]
        return text

    return View(to_tree(found), lines)


def unknown_lines(unknown: Sequence[Unknown], screen: Screen, indent: str = "") -> list[str]:
    """What can't be told now, and why: a sentence for each reason."""
    text: list[str] = []
    for why in dict.fromkeys(one.why for one in unknown):
        fields = ", ".join(one.field for one in unknown if one.why == why)
        text += wrapped(plain(f"What can't be told now: {fields} ({why})."), screen, indent)
    return text


def _sentence(found: Status) -> str:
    if not found.accepting:
        return f"EasyQ {plain(found.version)} refuses jobs:"
    how = "accepts jobs, and would run them" if found.running else "accepts jobs, but nothing would run them"
    return f"EasyQ {plain(found.version)} {how}{':' if found.problems else ''}"


def _row(one: OperationsPort) -> list[str | Cell]:
    why = " ".join(one.why.split())
    ready = Cell("degraded", "warn") if one.ready and why else _yes(one.ready)
    return [one.service, one.instance or words.NONE, one.address or words.NONE, _yes(one.alive), ready, why]


def _yes(so: bool) -> Cell:
    return Cell("yes", "good") if so else Cell("no", "bad")
