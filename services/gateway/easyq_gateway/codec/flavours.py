"""Where REST takes more than the schema's own type: by the field's full name."""

from __future__ import annotations

from typing import Any

from easyq_gateway.codec.json_text import JsonNumber, kind_of
from easyq_gateway.codec.scalars import Reader, check_text, integer_reader, read_string
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.sizes import parse_size
from easyq_gateway.domain.words import split_words

_whole = integer_reader(-(2**63), 2**63 - 1)


def read_command(value: Any, path: str, problems: Problems) -> list[str] | None:
    """A string, split as a POSIX shell would split it, or a list of strings."""
    if isinstance(value, list):
        return [read_string(item, f"{path}[{index}]", problems) or "" for index, item in enumerate(value)]
    if isinstance(value, JsonNumber) or not isinstance(value, str):
        problems.add(path, f"must be a string or a list of strings, not {kind_of(value)}")
        return None
    if check_text(value, path, problems) is None:
        return None
    try:
        return split_words(value)
    except ValueError as error:
        problems.add(path, str(error))
        return None


def read_env(value: Any, path: str, problems: Problems) -> str | None:
    """A string; a number or a boolean in its JSON spelling."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, JsonNumber):
        if value.finite:
            return str(value)
        problems.add(path, "NaN and Infinity are not JSON")
        return None
    if isinstance(value, str):
        return check_text(value, path, problems)
    hint = '; leave the variable out, or send ""' if value is None else ""
    problems.add(path, f"must be a string, a number or a boolean, not {kind_of(value)}{hint}")
    return None


def read_size(value: Any, path: str, problems: Problems) -> int | None:
    """Bytes as a number, or `512m` (b, k, m, g: powers of 1024)."""
    if isinstance(value, JsonNumber):
        size: int | None = _whole(value, path, problems)
        return size
    if not isinstance(value, str):
        problems.add(path, f"must be bytes as a number, or a size like 512m, not {kind_of(value)}")
        return None
    try:
        size = parse_size(value)
    except ValueError as error:
        problems.add(path, str(error))
        return None
    if size >= 2**63:
        problems.add(path, "is too large")
        return None
    return size


#: Readers of a field's whole value.
VALUES: dict[str, Reader] = {
    "easyq.v1.JobSpec.command": read_command,
    "easyq.v1.JobSpec.entrypoint": read_command,
    "easyq.v1.JobSpec.shm_size": read_size,
    "easyq.v1.JobSpec.log_limit": read_size,
    "easyq.v1.Resources.memory": read_size,
}

#: Readers of the values of a map; null is theirs to judge.
MAP_VALUES: dict[str, Reader] = {
    "easyq.v1.JobSpec.envs": read_env,
}
