"""Image references as `docker pull` takes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*):([0-9a-fA-F]{32,})")
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageReference:
    """The parts of `[registry[:port]/]name[:tag][@digest]`; empty where left out."""

    registry: str
    name: str
    tag: str
    digest: str

    @property
    def moving(self) -> bool:
        """Whether another image may stand behind the same reference tomorrow."""
        return not self.digest and self.tag in {"", "latest"}


@lru_cache(maxsize=1024)
def parse_image(text: str) -> ImageReference:
    """Splits and checks a reference. Raises `ValueError` with words for people.

    A colon belongs to a tag only behind the last slash: before it stands a registry's port.
    """
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(digest)
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        if not _TAG.fullmatch(tag):
            raise ValueError("has a tag that is not 1 to 128 letters, digits, `_`, `.` or `-`")
    else:
        head, tag = rest, ""
    registry, name = _split_registry(head)
    _check_name(head, name)
    return ImageReference(registry=registry, name=name, tag=tag, digest=digest)


def is_image(text: str) -> bool:
    """Whether it can be split."""
    try:
        parse_image(text)
    except ValueError:
        return False
    return True


def _split_registry(head: str) -> tuple[str, str]:
    first, slash, rest = head.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return "", head
    if not _HOST.fullmatch(first):
        raise ValueError("begins with a registry that is not `host` or `host:port`")
    return first, rest


def _check_name(head: str, name: str) -> None:
    if len(head) > _LONGEST_NAME:
        raise ValueError(f"has a name of more than {_LONGEST_NAME} characters")
    if all(_COMPONENT.fullmatch(part) for part in name.split("/")):
        return
    if all(_COMPONENT.fullmatch(part.lower()) for part in name.split("/")):
        raise ValueError("has upper case letters in its name, which must be lower case")
    raise ValueError("is not an image reference: [registry[:port]/]name[:tag][@digest]")


def _check_digest(digest: str) -> None:
    match = _DIGEST.fullmatch(digest)
    if match is None or len(match[2]) != _HEX_DIGITS.get(match[1], len(match[2])):
        raise ValueError("has a digest that is not `sha256:` and 64 hex digits")
