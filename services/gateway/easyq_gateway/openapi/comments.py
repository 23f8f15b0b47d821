"""Comments of the protos at run time: `scripts/gen_protos.py` writes them beside this file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TypeAlias

#: Full name (of an enum's value: that of the enum, and its own) → text, paragraphs parted by an empty line.
Comments: TypeAlias = Mapping[str, str]

_FIELD = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)`")


@cache
def load_comments() -> Comments:
    """Returns the comments of the public protos, in which fields that are named have their JSON names."""
    file = resources.files("easyq_gateway.openapi").joinpath("data", "comments.json")
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return {name: _FIELD.sub(lambda match: f"`{_camel(match[1])}`", text) for name, text in found.items()}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
