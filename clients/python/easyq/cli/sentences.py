"""Errors in the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easyq.errors import EasyQError


def sentence(error: EasyQError) -> str:
    """An error in one line, with its fields, and with what to do where nothing answers."""
    told = [f"{problem.field}: {problem.message}" for problem in error.fields]
    fields = "; ".join(one for one in told if one not in error.message)
    text = f"{error.message} ({fields})" if fields else error.message
    if error.code == "UNAVAILABLE" and not error.reason:
        text += " (`easyq up` starts an EasyQ on this machine)"
    return " ".join(text.split())
