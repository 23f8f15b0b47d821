"""The end of a program's output as people may see it in a message. Pure."""

from __future__ import annotations

import re

from easyq_chassis.redaction import MARKER, Redactor

#: Lines of each stream.
MOST_LINES = 50
_MOST_LINE = 500
# As the redactor's: of shorter ones there are none.
_LEAST_SECRET = 4
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Control characters, and those that turn the direction of the text around them.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def last_lines(data: bytes, *, cut: bool, secrets: list[str], redactor: Redactor) -> str:
    """The last lines, without secrets and without what would act on a screen. `cut`: more came before `data`."""
    text = data.decode("utf-8", "replace")
    head, newline, rest = text.partition("\n")
    if cut and newline:
        text = rest
    elif cut:
        text = _without_rest(head, secrets)
    text = redactor.hide(text, secrets)
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    lines = text.rstrip("\n").split("\n")[-MOST_LINES:] if text.strip("\n") else []
    return "\n".join(line if len(line) <= _MOST_LINE else line[:_MOST_LINE] + "…" for line in lines)


def _without_rest(text: str, secrets: list[str]) -> str:
    """The text without the end of a secret that was cut in two where the text begins."""
    for secret in secrets:
        for size in range(len(secret) - 1, _LEAST_SECRET - 1, -1):
            if text.startswith(secret[-size:]):
                return MARKER + text[size:]
    return text
