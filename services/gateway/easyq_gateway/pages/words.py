"""What a page says after a form was carried out. Its address has only the word, so that no link can put text there."""

from __future__ import annotations

from collections.abc import Mapping

DONE: Mapping[str, str] = {
    "stopped": "Stopped.",
    "stopping": "It was asked to stop.",
    "retried": "Its next attempt is queued.",
    "paused": "Paused: nothing fires until it is resumed.",
    "resumed": "Resumed.",
    "triggered": "It runs now, within its overlap.",
    "created": "A new job was made; this is it.",
    "deleted": "Deleted.",
    "resent": "It is sent again, under the same id.",
    "cordoned": "It takes nothing new; what it runs goes on.",
    "uncordoned": "It takes new work again.",
    "uncordoned-ended": "It takes new work once its agent runs again: start it, or send SIGHUP to its easyq up.",
    "draining": "It takes nothing new, and its agent ends once it is empty.",
    "dead": "Declared dead. Lost, and run again where they may: {executions}.",
    "reset": "The breaker is closed.",
    "many-retried": "Queued for their next attempt: {jobs}.",
    "many-discarded": "Deleted: {jobs}.",
}
