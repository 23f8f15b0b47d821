"""Secrets that are looked for afterwards, each with a name that says on which way it went."""

import base64
import threading
import uuid
from urllib.parse import quote

# Fewer bytes of a value could be there by chance.
_LEAST = 12


class Canaries:
    """`canaries["password"]` is the same text each time, and no other's."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._values.setdefault(name, f"cnry{uuid.uuid4().hex[:16]}")

    def add(self, name: str, value: str) -> str:
        """One whose value is not ours to choose."""
        self._values[name] = value
        return value

    def found_in(self, data: bytes) -> set[str]:
        """The names of those that `data` holds: as they are, or as base64 or URLs would have them."""
        # Listeners look in threads of their own, while a test makes up further ones.
        known = list(self._values.items())
        return {name for name, value in known if any(form in data for form in _forms(value))}


def _forms(value: str) -> set[bytes]:
    raw = value.encode()
    forms = {raw, quote(value, safe="").encode()}
    for offset in range(3):
        # Whole groups of three bytes, wherever the value stands in what was encoded.
        part = raw[offset : offset + (len(raw) - offset) // 3 * 3]
        if len(part) >= _LEAST:
            forms.add(base64.b64encode(part))
    return forms


class Seen:
    """All that left the system, and by which way; threads may add to it."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._found: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self.count = 0

    def add(self, way: str, data: bytes | str) -> None:
        raw = data if isinstance(data, bytes) else data.encode()
        found = self._canaries.found_in(raw)
        with self._lock:
            self.count += 1
            for name in found:
                self._found.setdefault(name, set()).add(way)

    def check(self) -> None:
        """Nothing came out since the last look; else it says what, and on which ways."""
        with self._lock:
            leaks = {name: sorted(ways) for name, ways in sorted(self._found.items())}
            self._found.clear()
        assert leaks == {}, leaks
        assert self.count, "nothing was looked at"
