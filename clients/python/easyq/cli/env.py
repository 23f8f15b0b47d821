"""Environment variables as `docker run` takes them. Pure: the caller's environment is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class EnvError(ValueError):
    """A line or option that names no variable."""


def collect(files: Iterable[tuple[str, str]], options: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of all files (name, content), then those of `-e`, which win; in both the last one wins.

    A name without `=` takes its value from `environ`, and is left out where that has none.
    """
    result: dict[str, str] = {}
    for name, text in files:
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            content = line.removesuffix("\r").lstrip()
            if content and not content.startswith("#"):
                _add(result, content, environ, f"{name}:{number}: ")
    for option in options:
        _add(result, option, environ, "")
    return result


def _add(result: dict[str, str], text: str, environ: Mapping[str, str], place: str) -> None:
    name, equals, value = text.partition("=")
    if not name:
        raise EnvError(f"{place}no variable name in {_clip(text)!r}")
    if any(character.isspace() for character in name):
        raise EnvError(f"{place}the variable name {_clip(name)!r} contains white space")
    if equals:
        result[name] = value
    elif name in environ:
        result[name] = environ[name]


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
