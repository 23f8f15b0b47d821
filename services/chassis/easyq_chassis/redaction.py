"""Which values are secrets, by their names and by their looks: the same wherever one could be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

MARKER = "[redacted]"
DEFAULT_SEGMENTS = (
    "PASSWORD", "PASSWORDS", "PASSWD", "PASSPHRASE", "PGPASSWORD", "SECRET", "SECRETS", "TOKEN", "KEY", "APIKEY",
    "CREDENTIALS", "AUTHORIZATION",
)  # fmt: skip

_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")
# Between the words of a name as JSON has it: `apiKey`, `APIKey`.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# user:password@ behind a scheme; the user may be empty, as in redis://:password@host.
# The scheme is bounded, or a long value of dots and letters would take quadratic time.
_URL_PASSWORD = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s/?#:@]*:)([^\s/?#]+)@")
# A key in place of the user, as Git's servers and Sentry have it: https://key@host.
_URL_USER = re.compile(r"(://)([A-Za-z0-9_.~%-]{20,}|\[redacted\])@")
_URL_REST = re.compile(r"://\S+")
_PARAMETER = re.compile(r"([?&;#])([^=&;#\s?]{1,128})=([^&;#\s]+)")
_DIGIT, _LETTER = re.compile(r"[0-9]"), re.compile(r"[A-Za-z]")
# Shorter values would take half of a text with them.
_LEAST_SECRET = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Redactor:
    """Knows which names are those of secrets: with one of `segments` between underscores, dashes, dots or humps."""

    segments: frozenset[str] = field(default=frozenset(DEFAULT_SEGMENTS))

    @classmethod
    def of(cls, segments: Iterable[str]) -> Redactor:
        """Returns a redactor for the given segments, in any case."""
        return cls(segments=frozenset(segment.upper() for segment in segments))

    def secret_name(self, name: str) -> bool:
        """Whether what bears this name is taken for a secret."""
        return not self.segments.isdisjoint(_segments(name))

    def show(self, name: str, value: str) -> str:
        """Returns the value as it may be shown: nothing of a secret, and texts without what is secret in URLs."""
        if value and self.secret_name(name):
            return MARKER
        if "://" not in value:
            return value
        value = _URL_PASSWORD.sub(rf"\1{MARKER}@", value)
        value = _URL_USER.sub(lambda found: f"{found[1]}{MARKER}@" if looks_like_key(found[2]) else found[0], value)
        return _URL_REST.sub(self._without_parameters, value)

    def hide(self, text: str, secrets: Iterable[str] = ()) -> str:
        """Returns a text without these values, and without what is secret in URLs."""
        for secret in secrets:
            text = text.replace(secret, MARKER)
        return self.show("", text)

    def secrets_in(self, envs: Mapping[str, str]) -> list[str]:
        """Returns the values of an environment that no text may show, longest first; with each line of longer ones."""
        found: set[str] = set()
        for name, value in envs.items():
            if self.secret_name(name):
                found.update(part for part in (value, *value.splitlines()) if len(part) >= _LEAST_SECRET)
        return sorted(found, key=len, reverse=True)

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
        return (
            any(match[2] == MARKER for match in _URL_PASSWORD.finditer(value))
            or any(match[2] == MARKER for match in _URL_USER.finditer(value))
            or any(
                match[3] == MARKER and self.secret_name(match[2])
                for rest in _URL_REST.finditer(value)
                for match in _PARAMETER.finditer(rest[0])
            )
        )

    def _without_parameters(self, rest: re.Match[str]) -> str:
        def show(found: re.Match[str]) -> str:
            return f"{found[1]}{found[2]}={MARKER}" if self.secret_name(found[2]) else found[0]

        return _PARAMETER.sub(show, rest[0])


def looks_like_key(text: str) -> bool:
    """Whether a piece of a URL is rather a key than a word: long, of letters and digits."""
    return len(text) >= 20 and _DIGIT.search(text) is not None and _LETTER.search(text) is not None


@lru_cache(maxsize=4096)
def _segments(name: str) -> frozenset[str]:
    return frozenset(_SEPARATORS.split(name.upper())) | frozenset(_SEPARATORS.split(_HUMP.sub("_", name).upper()))
