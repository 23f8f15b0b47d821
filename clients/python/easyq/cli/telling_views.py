"""Deliveries for people. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import state_cell
from easyq.cli.table import Cell, Column, Screen, render
from easyq.v1.job_pb2 import Job
from easyq.v1.notification_service_pb2 import Delivery

_STYLES = {"DELIVERED": "good", "FAILED": "bad", "PENDING": "busy"}


def deliveries_view(found: Sequence[Delivery], now: float, *, wide: bool) -> View:
    """What was told of a job's ends, newest first."""

    def lines(screen: Screen) -> list[str]:
        if not found:
            return ["nobody was told: the job asks for no notification, or has not ended"]
        columns = [Column("DELIVERY"), Column("STATE"), Column("OUTCOME", drop=2), Column("TRIES", right=True)]
        columns += [Column("CODE", right=True), Column("NEXT", right=True, drop=3), Column("TARGET", cut=True)]
        if wide:
            columns += [Column("EVENT"), Column("CHANNEL"), Column("CREATED"), Column("DELIVERED"), Column("EXECUTION")]
        columns.append(Column("ERROR", cut=True, drop=1))
        return render(columns, [_row(one, now, wide=wide) for one in found], screen)

    return View({"items": [to_tree(one) for one in found]}, lines)


def _row(one: Delivery, now: float, *, wide: bool) -> list[str | Cell]:
    state = Delivery.State.Name(one.state) if one.state in Delivery.State.values() else str(int(one.state))
    row: list[str | Cell] = [
        one.delivery_id,
        Cell(state, _STYLES.get(state, "")),
        state_cell(Job.State.Name(one.outcome) if one.outcome in Job.State.values() else str(int(one.outcome))),
        str(one.attempts),
        str(one.response_code) if one.HasField("response_code") else words.NONE,
        words.ago(one.next_attempt_at, now) if one.HasField("next_attempt_at") else words.NONE,
        one.target,
    ]
    if wide:
        event, channel = Delivery.Event.Kind, Delivery.Channel.Kind
        row += [
            event.Name(one.event) if one.event in event.values() else str(int(one.event)),
            channel.Name(one.channel) if one.channel in channel.values() else str(int(one.channel)),
            words.exact(one.created_at),
            words.exact(one.delivered_at) if one.HasField("delivered_at") else words.NONE,
            one.execution_id,
        ]
    return [*row, one.error]
