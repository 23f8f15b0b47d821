"""Image references, as far as pulling needs their parts."""

from __future__ import annotations

from dataclasses import dataclass

from easyq_runner.domain.records import PullMode

#: Docker's name for its own registry in credential files.
DOCKER_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageReference:
    """`repository` includes the registry; `version` is a tag or a digest, `latest` where none is given."""

    repository: str
    version: str
    # Key of the registry in Docker's credential files.
    registry: str
    # Names one image for ever.
    by_digest: bool


def parse_reference(text: str) -> ImageReference:
    """Splits a reference that was checked at the gateway: a registry's port is no tag, a digest beats a tag."""
    named, _, digest = text.partition("@")
    head, colon, tag = named.rpartition(":")
    if not colon or "/" in tag:
        head, tag = named, ""
    first, slash, _ = head.partition("/")
    own = bool(slash) and (first == "localhost" or "." in first or ":" in first)
    hub = not own or first in {"docker.io", "index.docker.io"}
    return ImageReference(
        repository=head,
        version=digest or tag or "latest",
        registry=DOCKER_HUB if hub else first,
        by_digest=bool(digest),
    )


def familiar(repository: str) -> str:
    """A repository as Docker shows it: its own registry and `library/` left out."""
    for prefix in ("docker.io/", "index.docker.io/"):
        repository = repository.removeprefix(prefix)
    return repository.removeprefix("library/")


def familiar_reference(text: str) -> str:
    """A whole reference as Docker shows it: `alpine` is `alpine:latest`."""
    reference = parse_reference(text)
    return f"{familiar(reference.repository)}{'@' if reference.by_digest else ':'}{reference.version}"


def resolve_mode(mode: PullMode, reference: ImageReference) -> PullMode:
    """What UNSPECIFIED means: the gateway's rule, should an assignment come without it."""
    if mode is not PullMode.UNSPECIFIED:
        return mode
    moving = not reference.by_digest and reference.version == "latest"
    return PullMode.ALWAYS if moving else PullMode.MISSING
