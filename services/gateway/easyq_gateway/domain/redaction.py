"""Hiding secrets where a spec or an execution is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easyq_chassis.redaction import DEFAULT_SEGMENTS, MARKER, Redactor, looks_like_key

__all__ = ("DEFAULT_SEGMENTS", "MARKER", "Redactor", "Restored", "looks_like_key", "restore", "restore_words")


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """Variables with stored values in place of markers, and the names for which nothing is stored."""

    values: dict[str, str]
    missing: tuple[str, ...]


def restore(redactor: Redactor, sent: Mapping[str, str], stored: Mapping[str, str]) -> Restored:
    """Puts stored values where `sent` has what was shown of them."""
    values: dict[str, str] = {}
    missing: list[str] = []
    for name, value in sent.items():
        if not redactor.is_marked(name, value):
            continue
        if name in stored and redactor.show(name, stored[name]) == value:
            values[name] = stored[name]
        else:
            missing.append(name)
    return Restored(values=values, missing=tuple(missing))


def restore_words(redactor: Redactor, sent: Sequence[str], stored: Sequence[str]) -> list[str]:
    """Returns the words with stored ones where `sent` has what was shown of them.

    A word may have moved. Where several stored ones look the same and are not, those of a command with as many words
    as before are taken by their place, and of another they stay marked: a guess would give one's secret to the other.
    """
    words = list(sent)
    for index, word in enumerate(words):
        if not redactor.is_marked("", word):
            continue
        like = [one for one in stored if redactor.show("", one) == word]
        if len(set(like)) == 1:
            words[index] = like[0]
        elif len(sent) == len(stored) and stored[index] in like:
            words[index] = stored[index]
    return words
