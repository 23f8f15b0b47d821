"""What is told of an error: plain values, already without secrets, that may be kept and sent anywhere. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

# Of one chain; beyond that an error that raises itself again and again would never end.
_MOST_ERRORS = 8
# Of one error: the innermost ones.
_MOST_FRAMES = 50


class Kind(enum.Enum):
    """What failed."""

    #: A service of EasyQ.
    CRASH = "crash"
    #: An execution of a job: the user's program, or what it needed.
    EXECUTION = "execution"


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One call of a traceback. Values of variables are nowhere."""

    module: str
    function: str
    line: int

    @property
    def ours(self) -> bool:
        """Whether it is code of EasyQ."""
        return self.module.partition(".")[0].startswith("easyq")


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """One error of a chain. Frames are outermost first."""

    kind: str
    module: str
    text: str
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """An error as handlers get it."""

    #: 32 hex digits: the same where one is told again.
    report_id: str
    kind: Kind
    #: One line.
    title: str
    #: Where it happened: a method, a loop, a route, a task.
    place: str
    #: ms since the epoch.
    at_ms: int
    #: Reports of one cause have the same.
    fingerprint: tuple[str, ...]
    #: Ids and names to search by: `task`, `job`, `execution`, `attempt`, `agent`, `epoch`, `trace_id`, … where known.
    tags: Mapping[str, str] = field(default_factory=dict)
    #: Further facts, by name.
    facts: Mapping[str, str] = field(default_factory=dict)
    #: Last lines of the program's output, by stream.
    output: Mapping[str, str] = field(default_factory=dict)
    #: The error and what caused it, causes first.
    raised: tuple[Raised, ...] = ()
    #: The process ends with it.
    fatal: bool = False
    #: Reports of the same cause that were left out since the last one.
    left_out: int = 0


def raised_of(error: BaseException, hide: Callable[[str], str]) -> tuple[Raised, ...]:
    """The error and what caused it, causes first; `hide` makes their texts fit to be told."""
    return tuple(
        Raised(
            kind=type(one).__qualname__,
            module=type(one).__module__,
            text=hide(_text(one)),
            frames=tuple(_frames(one.__traceback__))[-_MOST_FRAMES:],
        )
        for one in reversed(chain(error))
    )


def chain(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on; of a group, its first one stands for all."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and len(found) < _MOST_ERRORS and all(one is not known for known in found):
        found.append(one)
        if isinstance(one, BaseExceptionGroup):
            one = one.exceptions[0]
        else:
            one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return found


def cause_of(error: BaseException) -> tuple[str, str]:
    """What tells errors of one cause from others: the type of the innermost error, and where in our code it arose.

    Neither its text, which names ids, nor lines, which move with each version.
    """
    errors = chain(error)
    root = errors[-1]
    frames = list(_frames(root.__traceback__))
    outer = [frame for one in errors[:-1] for frame in _frames(one.__traceback__)]
    own = [frame for frame in (*outer, *frames) if frame.ours]
    place = next(iter((own or frames or outer)[-1:]), None)
    kind = f"{type(root).__module__}.{type(root).__qualname__}"
    return kind, "" if place is None else f"{place.module}:{place.function}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error of others may fail to say what it is
        return "(it can't be shown)"


def _frames(trace: TracebackType | None) -> Iterator[Frame]:
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__")
        yield Frame(module=module if isinstance(module, str) else "", function=code.co_qualname, line=trace.tb_lineno)
        trace = trace.tb_next
