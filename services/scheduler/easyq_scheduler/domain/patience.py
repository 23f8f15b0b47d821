"""How long the store may keep a scheduler waiting at its start before that is worth a warning."""

from __future__ import annotations

# Services of a machine are started side by side.
_CALM = 10.0
_DOUBLINGS = 5


def warning_due(waited: float, told: int) -> bool:
    """Whether to warn after so many seconds, `told` warnings having been given: after 10 s, 20 s and so on to 320 s,
    and then every 320 s."""
    longest = _CALM * 2.0**_DOUBLINGS
    return waited >= (_CALM * 2.0**told if told <= _DOUBLINGS else longest * (told - _DOUBLINGS + 1))
