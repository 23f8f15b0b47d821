"""Whether to pull, and what a failed pull means.

- `missing` and `never` ask nothing beforehand: the create itself tells that an image is missing.
- `always` pulls, except where that can bring nothing new: a digest that is present, or an image that no registry knows
  (imported or built on the host, so it has no registry digest).
- A pull that can't reach its registry fails the execution as a matter of infrastructure, also where an older image is
  present: `always` asks for the newest, and running another one unasked would be a lie. `pull_fallback` of the agent's
  settings allows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from easyq_runner.domain.images import ImageReference
from easyq_runner.domain.records import Failure, FailureReason, Finish, GiveBack, OutcomeKind, PullMode

# Seconds until a busy registry is asked again: where it does not say, and the bounds of what it may say.
_DEFAULT_RETRY = 60.0
_LEAST_RETRY = 1.0
_LONGEST_RETRY = 6 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """An image on the host."""

    image_id: str
    # It was pulled from a registry, or pushed to one.
    known_to_registry: bool
    # Bytes, with what it shares with others.
    size: int = 0
    # Its names, as Docker shows them.
    tags: tuple[str, ...] = ()


class BeforeCreate(Enum):
    """What comes before a create."""

    # Create at once.
    NOTHING = "nothing"
    # Look whether the image is there, then decide again.
    LOOK = "look"
    PULL = "pull"
    # As NOTHING, worth a line in the log.
    KEEP_LOCAL = "keep_local"


def before_looking(mode: PullMode) -> BeforeCreate:
    """The step before anything is known of the image."""
    return BeforeCreate.LOOK if mode is PullMode.ALWAYS else BeforeCreate.NOTHING


def after_looking(reference: ImageReference, local: LocalImage | None) -> BeforeCreate:
    """The step of `always`, once it is known what the host has."""
    if local is None:
        return BeforeCreate.PULL
    if reference.by_digest:
        return BeforeCreate.NOTHING
    return BeforeCreate.PULL if local.known_to_registry else BeforeCreate.KEEP_LOCAL


def when_missing(mode: PullMode, image: str, said: str, *, pulled: bool) -> Finish | None:
    """The create said that the image is missing: None to pull it, else how the execution ends."""
    if mode is PullMode.NEVER:
        return _rejected(f"the host has no image {image}, and the job's `pull` is NEVER")
    if pulled:
        return _rejected(f"image {image} was pulled, and Docker can't use it all the same: {said}")
    return None


def when_refused(image: str, said: str) -> Finish:
    """The registry says that there is no such image, or denies it: a further attempt would hear the same."""
    return _rejected(f"image {image}: {said}")


def when_unreachable(image: str, said: str, local: LocalImage | None, *, fallback: bool) -> Finish | None:
    """The pull failed for other reasons: None to run the local image all the same, else how the execution ends."""
    if local is not None and fallback:
        return None
    hint = "; the host has an older one, which `pull_fallback` would allow" if local is not None else ""
    return Finish(
        outcome=OutcomeKind.INFRA_FAILED,
        failure=Failure(reason=FailureReason.PULL_FAILED, message=f"can't pull {image}: {said}{hint}"),
    )


def when_busy(
    image: str, said: str, local: LocalImage | None, *, fallback: bool, retry_after: float | None
) -> GiveBack | None:
    """The registry asks to come back later: as `when_unreachable`, but that is nobody's failure."""
    if local is not None and fallback:
        return None
    return GiveBack(
        failure=Failure(reason=FailureReason.REGISTRY_BUSY, message=f"can't pull {image} yet: {said}"),
        retry_after=_DEFAULT_RETRY if retry_after is None else min(max(retry_after, _LEAST_RETRY), _LONGEST_RETRY),
    )


def _rejected(message: str) -> Finish:
    return Finish(outcome=OutcomeKind.REJECTED, failure=Failure(reason=FailureReason.IMAGE_NOT_FOUND, message=message))
