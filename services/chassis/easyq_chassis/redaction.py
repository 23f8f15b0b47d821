"""Which values are secrets, by their names and by their looks: the same wherever one could be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MARKER = "[redacted]"
DEFAULT_SEGMENTS = ("PASSWORD", "SECRET", "TOKEN", "KEY")

_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")
# user:password@ behind a scheme; the user may be empty, as in redis://:password@host.
# The scheme is bounded, or a long value of dots and letters would take quadratic time.
_URL_PASSWORD = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s/?#:@]*:)([^\s/?#]+)@")


@dataclass(frozen=True, kw_only=True, slots=True)
class Redactor:
    """Knows which environment variables are secret: those with one of `segments` between underscores."""

    segments: frozenset[str] = field(default=frozenset(DEFAULT_SEGMENTS))

    @classmethod
    def of(cls, segments: Iterable[str]) -> Redactor:
        """Returns a redactor for the given segments, in any case."""
        return cls(segments=frozenset(segment.upper() for segment in segments))

    def secret_name(self, name: str) -> bool:
        """Whether a variable of this name is taken for a secret."""
        return not self.segments.isdisjoint(_SEPARATORS.split(name.upper()))

    def show(self, name: str, value: str) -> str:
        """Returns the value as it may be shown."""
        if value and self.secret_name(name):
            return MARKER
        if "://" in value:
            return _URL_PASSWORD.sub(rf"\1{MARKER}@", value)
        return value

    def changes(self, envs: Mapping[str, str]) -> dict[str, str]:
        """Returns the variables that must be shown otherwise than they are, as they may be shown."""
        shown = {name: self.show(name, value) for name, value in envs.items()}
        return {name: value for name, value in shown.items() if value != envs[name]}

    def is_marked(self, name: str, value: str) -> bool:
        """Whether the value is what `show` made of a secret, so that it stands for a stored one."""
        if MARKER not in value:
            return False
        if self.secret_name(name):
            return value == MARKER
        return any(match[2] == MARKER for match in _URL_PASSWORD.finditer(value))
