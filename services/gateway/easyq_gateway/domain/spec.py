"""Rules of a job's spec that its schema can't say. What the schema says (ranges, patterns) is not repeated here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from easyq_gateway.domain.images import parse_image
from easyq_gateway.domain.problems import TOO_LARGE, Problem, key_path
from easyq_gateway.domain.receivers import HookFacts, check_hooks
from easyq_gateway.domain.redaction import Redactor

#: Of a spec, serialized.
MOST_SPEC_BYTES = 256 * 1024
#: The kernel takes no longer argument or `NAME=value`.
MOST_ARGUMENT_BYTES = 131_071
#: Docker's least.
LEAST_MEMORY = 6 * 1024 * 1024
LEAST_CPUS = 0.01
TEN_YEARS_MS = 3_650 * 86_400_000

_EXIT_CODES = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_CRON = "is for recurring jobs: it needs `cron`"


@dataclass(frozen=True, kw_only=True, slots=True)
class MountFacts:
    """One mount. `kind` is BIND, VOLUME or TMPFS."""

    kind: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecFacts:
    """What the rules look at. Times are ms since the epoch, durations ms; None where unset."""

    image: str
    size: int
    envs: Mapping[str, str]
    label_keys: Sequence[str] = ()
    retry_on: Sequence[str] = ()
    backoff_min_ms: int | None = None
    backoff_max_ms: int | None = None
    cpus: float = 0.0
    memory: int = 0
    mounts: Sequence[MountFacts] = ()
    start_at_ms: int | None = None
    expiration_ms: int | None = None
    # `cron` is given; it may be a wrong one.
    recurs: bool = False
    # JSON names of fields of recurring jobs that say anything but what the resolved spec of a plain job shows.
    of_recurring: Sequence[str] = ()
    start_after_ms: int | None = None
    end_at_ms: int | None = None
    hooks: Sequence[HookFacts] = ()


def check_spec(facts: SpecFacts, *, now_ms: int, redactor: Redactor, default_min_ms: int) -> Iterator[Problem]:
    """Yields what is wrong, with paths relative to the spec."""
    if facts.size > MOST_SPEC_BYTES:
        yield Problem(
            path="",
            message=f"is {facts.size} bytes, of at most {MOST_SPEC_BYTES} (serialized)",
            reason=TOO_LARGE,
        )
    yield from _check_image(facts.image)
    yield from _check_envs(facts.envs, redactor)
    for key in facts.label_keys:
        if key.startswith("easyq."):
            yield Problem(path=key_path("labels", key), message="labels starting with `easyq.` are EasyQ's own")
    for index, text in enumerate(facts.retry_on):
        yield from _check_exit_codes(f"retryOn[{index}]", text)
    yield from _check_backoff(facts, default_min_ms)
    yield from _check_resources(facts)
    yield from _check_mounts(facts.mounts)
    yield from _check_times(facts, now_ms)
    yield from _check_schedule(facts, now_ms)
    if facts.hooks:
        yield from check_hooks(facts.hooks, redactor)


def _check_image(image: str) -> Iterator[Problem]:
    try:
        parse_image(image)
    except ValueError as error:
        yield Problem(path="image", message=str(error))


def _check_envs(envs: Mapping[str, str], redactor: Redactor) -> Iterator[Problem]:
    for name, value in envs.items():
        if name.startswith("EASYQ_"):
            yield Problem(path=key_path("envs", name), message="variables starting with `EASYQ_` are set by EasyQ")
        # No character takes more than four bytes: short ones need no encoding to be measured.
        if 4 * (len(name) + len(value)) >= MOST_ARGUMENT_BYTES:
            size = len(name.encode()) + 1 + len(value.encode())
            if size > MOST_ARGUMENT_BYTES:
                text = f"`NAME=value` is {size} bytes, of at most {MOST_ARGUMENT_BYTES}"
                yield Problem(path=key_path("envs", name), message=text)
        if redactor.is_marked(name, value):
            text = "is the mark of a value that was not shown, and none is stored for it; send the value itself"
            yield Problem(path=key_path("envs", name), message=text)


def _check_exit_codes(path: str, text: str) -> Iterator[Problem]:
    match = _EXIT_CODES.fullmatch(text)
    if match is None:  # `oom`, `timeout`, or what the schema refuses
        return
    low, high = int(match[1]), int(match[2] or match[1])
    if high > 255:
        yield Problem(path=path, message="exit codes go from 0 to 255")
    elif low > high:
        yield Problem(path=path, message="the range ends before it begins")


def _check_backoff(facts: SpecFacts, default_min_ms: int) -> Iterator[Problem]:
    least = default_min_ms if facts.backoff_min_ms is None else facts.backoff_min_ms
    if facts.backoff_max_ms is not None and facts.backoff_max_ms < least:
        yield Problem(path="backoff.max", message=f"is less than backoff.min ({least / 1000:g}s)")


def _check_resources(facts: SpecFacts) -> Iterator[Problem]:
    if 0 < facts.memory < LEAST_MEMORY:
        yield Problem(path="resources.memory", message="must be 0 (no bound) or at least 6 MiB (6291456 bytes)")
    if 0 < facts.cpus < LEAST_CPUS:
        yield Problem(path="resources.cpus", message="must be 0 (no bound) or at least 0.01")


def _check_mounts(mounts: Sequence[MountFacts]) -> Iterator[Problem]:
    targets: dict[str, int] = {}
    for index, mount in enumerate(mounts):
        path = f"mounts[{index}]"
        yield from _check_source(f"{path}.source", mount)
        if ".." in mount.target.split("/"):
            yield Problem(path=f"{path}.target", message="must not contain `..`")
        target = "/" + "/".join(part for part in mount.target.split("/") if part not in {"", "."})
        if target == "/":
            yield Problem(path=f"{path}.target", message="must not be the container's root")
        elif target in targets:
            yield Problem(path=f"{path}.target", message=f"is the target of mounts[{targets[target]}] as well")
        targets.setdefault(target, index)


def _check_source(path: str, mount: MountFacts) -> Iterator[Problem]:
    if mount.kind == "TMPFS":
        if mount.source:
            yield Problem(path=path, message="must be empty for TMPFS")
    elif mount.kind == "VOLUME":
        if not _VOLUME.fullmatch(mount.source):
            yield Problem(path=path, message="must be a volume's name: letters, digits, `_`, `.`, `-`")
    elif not mount.source.startswith("/"):
        yield Problem(path=path, message="must be an absolute path of the host")
    elif ".." in mount.source.split("/"):
        yield Problem(path=path, message="must not contain `..`")


def _check_times(facts: SpecFacts, now_ms: int) -> Iterator[Problem]:
    for path, time_ms in (
        ("startAt", facts.start_at_ms),
        ("expiration", facts.expiration_ms),
        ("startAfter", facts.start_after_ms),
    ):
        if time_ms is not None and abs(time_ms - now_ms) > TEN_YEARS_MS:
            far = "ahead (unix seconds, not milliseconds?)" if time_ms > now_ms else "ago"
            yield Problem(path=path, message=f"is more than ten years {far}")
    if facts.start_at_ms is not None and facts.expiration_ms is not None and facts.expiration_ms <= facts.start_at_ms:
        yield Problem(path="expiration", message="is not after startAt, so that the job could never start")


def _check_schedule(facts: SpecFacts, now_ms: int) -> Iterator[Problem]:
    if not facts.recurs:
        for name in facts.of_recurring:
            yield Problem(path=name, message=_NO_CRON)
        return
    if facts.end_at_ms is None:
        return
    if facts.end_at_ms <= now_ms:
        yield Problem(path="endAt", message="is in the past, so that no fire is left")
    elif facts.start_after_ms is not None and facts.end_at_ms <= facts.start_after_ms:
        yield Problem(path="endAt", message="is not after startAfter, so that the job would never run")
