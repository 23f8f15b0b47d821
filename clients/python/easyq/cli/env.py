"""Environment variables as `docker run` takes them. Pure: the caller's environment is an argument."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping


def is_text(value: str) -> bool:
    """Whether it is valid UTF-8 where it came from; Python hands on other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


class EnvError(ValueError):
    """A line or option that names no variable."""


def collect(files: Iterable[tuple[str, bytes]], options: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of all files (name, content), then those of `-e`, which win; in both the last one wins.

    A name without `=` takes its value from `environ`, and is left out where that has none. Raises EnvError, which names
    the file and the line.
    """
    result: dict[str, str] = {}
    for name, data in files:
        for number, line in enumerate(data.removeprefix(BOM_UTF8).split(b"\n"), 1):
            place = f"{name}:{number}: "
            content = _decode(line, place).removesuffix("\r").lstrip()
            if content and not content.startswith("#"):
                _add(result, content, environ, place)
    for option in options:
        _add(result, option, environ, "")
    return result


def _add(result: dict[str, str], text: str, environ: Mapping[str, str], place: str) -> None:
    name, equals, value = text.partition("=")
    if not name or "\0" in name:
        raise EnvError(f"{place}no variable name in {_clip(text)!r}")
    if any(character.isspace() for character in name):
        raise EnvError(f"{place}the variable name {_clip(name)!r} contains white space")
    if "\0" in value:
        raise EnvError(f"{place}a NUL byte in the value of {_clip(name)!r}")
    if not equals:
        if name not in environ:
            return
        value = environ[name]
        if not is_text(value):
            raise EnvError(f"{place}the value that {_clip(name)!r} has here is not valid UTF-8")
    result[name] = value


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        # Without the line itself: values may be secrets.
        raise EnvError(f"{place}byte {error.start + 1} of the line is not valid UTF-8") from error


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
