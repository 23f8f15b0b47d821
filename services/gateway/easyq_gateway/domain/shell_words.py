"""A list of words as one line that `words.split_words` reads back."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./\-\[\]{}^~?*#&()!;<>$|`]+")


def join_words(words: Iterable[str]) -> str:
    """Returns the words in one line, quoted where they would not be read back as they are."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    if "'" in word and '"' not in word and "\\" not in word:
        return f'"{word}"'
    return "'" + word.replace("'", "'\"'\"'") + "'"
