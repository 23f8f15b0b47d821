"""Regexes that callers send."""

from __future__ import annotations

import re
import warnings


def why_no_pattern(text: str) -> str:
    """Returns what is wrong with a regex for whole names, in words for people; empty where nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except re.error as error:
        return f"is not a regex: {error}"
    except (RecursionError, OverflowError):
        return "is not a regex of a reasonable size"
    return ""
