"""Numbers, sizes and times in the words that people read at a glance."""

from __future__ import annotations

from datetime import UTC, datetime

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
# What is nearer than this is now.
_NOW = 2 * _SECOND


def count(number: int) -> str:
    """Returns a number with separators between its thousands: `12,345`."""
    return f"{number:,}"


def size(number: int) -> str:
    """Returns bytes in the largest unit that keeps the number above one: `1.5 KiB`."""
    if number < 1024:
        return f"{number} B"
    value, at = number / 1024, 0
    while value >= 1023.95 and at < len(_UNITS) - 1:
        value, at = value / 1024, at + 1
    return f"{value:.1f} {_UNITS[at]}"


def duration(ms: float) -> str:
    """Returns a length of time, two units at most: `340 ms`, `4.2 s`, `3 min 20 s`, `2 d 5 h`.

    Nothing takes no time: where an engine's stamps of start and end are one, or in the wrong order, it is `< 1 ms`.
    """
    ms = max(0, round(ms))
    if ms == 0:
        return "< 1 ms"
    if ms < _SECOND:
        return f"{ms} ms"
    if ms < 9_950:
        return f"{ms / _SECOND:.1f} s"
    if ms < _MINUTE - 500:
        return f"{round(ms / _SECOND)} s"
    seconds = round(ms / _SECOND)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if hours < 1:
        return _two(minutes, "min", seconds % 60, "s")
    if hours < 48:
        return _two(hours, "h", minutes % 60, "min")
    return _two(days, "d", hours % 24, "h")


def ago(delta_ms: float) -> str:
    """Returns how long ago something was, or in how long it will be (negative): `3 min ago`, `in 2 h`, `now`."""
    if abs(delta_ms) < _NOW:
        return "now"
    words = _rough(abs(delta_ms))
    return f"{words} ago" if delta_ms > 0 else f"in {words}"


def exact(ms: int) -> str:
    """Returns a time (ms since the epoch) to the second: `2030-01-31 08:00:00 UTC`."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(ms: int) -> str:
    """Returns a time for programs: `2030-01-31T08:00:00.000Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(ms: int, span_ms: int) -> str:
    """Returns a time as the axis of a plot over `span_ms` has it, in UTC: seconds, minutes, or the day."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    if span_ms < 10 * _MINUTE:
        return at.strftime("%H:%M:%S")
    return at.strftime("%H:%M") if span_ms <= _DAY else at.strftime("%b %d %H:%M")


def percent(part: float, whole: float) -> str:
    """Returns a share; `100%` and `0%` only where they are exact."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if share in {0, 100}:
        return f"{share:.0f}%"
    return f"{min(99.9, max(0.1, share)):.1f}%"


def plural(number: int, one: str, many: str = "") -> str:
    """Returns `1 job`, `1,200 jobs`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first} {unit} {second} {smaller}" if second else f"{first} {unit}"


def _rough(ms: float) -> str:
    for unit, words in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if ms >= (2 * unit if words != "min" else unit):
            return f"{int(ms // unit)} {words}"
    return f"{int(ms // _SECOND)} s"
