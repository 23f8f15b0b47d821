"""Which Docker Engine the agent works with where the user named none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was found on this machine."""

    #: Where this user's `docker` command would look, and whether the user chose that (DOCKER_HOST, a context).
    default_url: str
    default_is_chosen: bool
    #: None: nobody asked, since it changes nothing (`asks`).
    default_answers: bool | None = None
    #: An engine of EasyQ's own runs from an earlier `easyq up`; containers of jobs may live in it.
    own_runs: bool
    #: `--engine none`.
    own_is_forbidden: bool
    is_root: bool
    has_dockerd: bool
    #: Root on a Debian-like system.
    can_install: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """`own`: an engine of EasyQ's own is started (and with `install` installed before). `words` are for the terminal;
    empty where there is nothing to say. `missing` is to be said where the default engine does not answer."""

    own: bool = False
    install: bool = False
    words: str = ""
    missing: str = ""


def asks(facts: Facts) -> bool:
    """Whether the choice depends on an answer of the default engine: for that alone is it worth waiting for one."""
    may_start = facts.is_root and not facts.default_is_chosen and (facts.has_dockerd or facts.can_install)
    return may_start and not facts.own_is_forbidden and not facts.own_runs


def choose(facts: Facts) -> Choice:
    """The choice; the default engine unless `own`."""
    if facts.own_runs and not facts.own_is_forbidden:
        return Choice(own=True, words="using the Docker Engine of EasyQ's own that runs already")
    missing = f"no Docker Engine answers at {facts.default_url}"
    if facts.default_answers or not asks(facts):
        return Choice(missing=f"{missing}. {_WAITS} {_advice(facts)}")
    if facts.has_dockerd:
        return Choice(own=True, words=f"{missing}: starting one of EasyQ's own under the data folder")
    return Choice(
        own=True,
        install=True,
        words=f"{missing}: installing docker.io and starting an engine of EasyQ's own under the data folder",
    )


_WAITS = "Everything else runs: jobs are accepted, and wait for a Docker Engine."


def _advice(facts: Facts) -> str:
    start = "Start it" if facts.has_dockerd else "Install and start one (on Debian: apt-get install docker.io)"
    advice = f"{start}, or name another by --docker-host."
    if facts.own_is_forbidden:
        return f"{advice} --engine none keeps EasyQ from starting one of its own."
    return advice
