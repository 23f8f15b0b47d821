"""What executions ask of their hosts, and what hosts offer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

ALL_GPUS = -1

# Signatures are parsed, and made, once for so many different ones.
_MOST_KNOWN = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What an execution asks for: cpu in thousandths of a core, memory in bytes, GPUs (-1: all of the host's), and
    labels, sorted, that its agent must have. All zero and empty: nothing but a slot."""

    cpu_millis: int = 0
    memory: int = 0
    gpus: int = 0
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def signature(self) -> str:
        """The same text for the same needs, as the index has it; empty for none."""
        return "" if self is NOTHING else _signature(self)

    @classmethod
    def from_signature(cls, text: str) -> Needs:
        """The needs of a signature."""
        return _parsed(text) if text else NOTHING

    def __str__(self) -> str:
        """In words: `2 cpus, 4 GiB of memory`."""
        words = []
        if self.cpu_millis:
            words.append(_cpus(self.cpu_millis))
        if self.memory:
            words.append(f"{_size(self.memory)} of memory")
        if self.gpus:
            words.append("all GPUs of a host" if self.gpus == ALL_GPUS else _gpus(self.gpus))
        if self.labels:
            words.append("label " + ", ".join(f"{name}={value}" for name, value in self.labels))
        return ", ".join(words) or "a slot"


NOTHING = Needs()


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a host has for jobs, or what they use of it. As an offer 0 is not known, so that everything fits; no GPUs
    are known to be none where anything else is known. `whole_gpus`: how many jobs use all GPUs."""

    cpu_millis: int = 0
    memory: int = 0
    gpus: int = 0
    whole_gpus: int = 0

    @property
    def known(self) -> bool:
        """The host told something of what it has."""
        return bool(self.cpu_millis or self.memory or self.gpus)

    def __str__(self) -> str:
        """In words."""
        return f"{_cpus(self.cpu_millis)}, {_size(self.memory)} of memory, {_gpus(self.gpus)}"


UNKNOWN = Offer()


def suits(offer: Offer, labels: tuple[tuple[str, str], ...], needs: Needs) -> bool:
    """Whether the whole of a host would do."""
    return not shortages(offer, needs) and not missing_labels(labels, needs)


def shortages(offer: Offer, needs: Needs) -> list[str]:
    """What even the whole of a host has too little of: `cpus`, `memory`, `GPUs`."""
    short = []
    if offer.cpu_millis and needs.cpu_millis > offer.cpu_millis:
        short.append("cpus")
    if offer.memory and needs.memory > offer.memory:
        short.append("memory")
    if needs.gpus and offer.known and (not offer.gpus or needs.gpus > offer.gpus):
        short.append("GPUs")
    return short


def missing_labels(labels: tuple[tuple[str, str], ...], needs: Needs) -> list[tuple[str, str]]:
    """Labels that are asked for and that an agent with `labels` doesn't have."""
    return [label for label in needs.labels if label not in labels]


def has_room(offer: Offer, used: Offer, needs: Needs) -> bool:
    """Whether what is free of a host that suits does."""
    if needs.cpu_millis and offer.cpu_millis and used.cpu_millis + needs.cpu_millis > offer.cpu_millis:
        return False
    if needs.memory and offer.memory and used.memory + needs.memory > offer.memory:
        return False
    if needs.gpus == ALL_GPUS:
        return not used.gpus and not used.whole_gpus
    if needs.gpus:
        return not used.whole_gpus and (not offer.gpus or used.gpus + needs.gpus <= offer.gpus)
    return True


def added(used: Offer, needs: Needs) -> Offer:
    """What is used with one more."""
    return Offer(
        cpu_millis=used.cpu_millis + needs.cpu_millis,
        memory=used.memory + needs.memory,
        gpus=used.gpus + max(0, needs.gpus),
        whole_gpus=used.whole_gpus + (needs.gpus == ALL_GPUS),
    )


@lru_cache(_MOST_KNOWN)
def _signature(needs: Needs) -> str:
    if needs == NOTHING:
        return ""
    labels = json.dumps(dict(needs.labels), separators=(",", ":"), sort_keys=True)
    return f"{needs.cpu_millis}:{needs.memory}:{needs.gpus}:{labels}"


@lru_cache(_MOST_KNOWN)
def _parsed(text: str) -> Needs:
    cpu, memory, gpus, labels = text.split(":", 3)
    return Needs(
        cpu_millis=int(cpu), memory=int(memory), gpus=int(gpus), labels=tuple(sorted(json.loads(labels).items()))
    )


def _cpus(millis: int) -> str:
    return f"{millis / 1000:g} cpu{'s' * (millis != 1_000)}"


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count != 1)}"


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
