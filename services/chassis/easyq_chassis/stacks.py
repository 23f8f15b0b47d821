"""What a living process does at this moment: SIGUSR2 writes the stacks of all its tasks and threads.

Little is imported here, and asyncio only where there is an event loop: the runner's watchdog, which has none, uses it
too.
"""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import asyncio

#: Receives the path of the file (empty where none could be written), the text, and how many tasks and threads it shows.
Told: TypeAlias = "Callable[[str, str, int, int], None]"

# Frames of one stack, and the stacks of which no more are written than the file needs to stay readable.
_MOST_FRAMES = 60
_MOST_STACKS = 500


def on_signal(name: str, tell: Told, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """From now on SIGUSR2 has the stacks written to a file of the folder for temporary files, and `tell` called.

    To be called by the main thread. Signals are heard between two steps of the interpreter, so also while the event
    loop is stuck in Python; not while it is stuck outside of it, which is what py-spy is for. `tell` is called by a
    thread of its own: the one that was interrupted may hold any lock.
    """

    def heard(_number: int, _frame: FrameType | None) -> None:
        # Not by `threading`, which takes locks too.
        _thread.start_new_thread(dump, ())

    def dump() -> None:
        text, tasks, threads = stacks(loop)
        head = f"{name}, pid {os.getpid()}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n\n"
        tell(_write(name, head + text), head + text, tasks, threads)

    signal.signal(signal.SIGUSR2, heard)
    # Whoever started this process may have it held back until now, since it would end a process that doesn't know it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


def stacks(loop: asyncio.AbstractEventLoop | None = None) -> tuple[str, int, int]:
    """The text, and how many tasks and threads it shows. Those that stand at the same place are shown once."""
    tasks = [] if loop is None else _tasks(loop)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = {ident: frame for ident, frame in sys._current_frames().items() if ident != _thread.get_ident()}
    parts = [f"{len(tasks)} tasks, {len(frames)} threads\n"]
    for what, found in (
        ("Task", ((task.get_name(), _task_lines(task)) for task in tasks)),
        ("Thread", ((names.get(ident, str(ident)), _thread_lines(frame)) for ident, frame in frames.items())),
    ):
        parts += list(_grouped(what, found))
    return "\n".join(parts), len(tasks), len(frames)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    import asyncio

    return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())


def _grouped(what: str, found: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, lines in found:
        groups.setdefault(tuple(lines), []).append(name)
    for place, names in sorted(groups.items(), key=lambda group: len(group[1]))[:_MOST_STACKS]:
        several = f" ({len(names)} alike)" if len(names) > 1 else ""
        yield f"{what} {', '.join(names[:5])}{', …' if len(names) > 5 else ''}{several}\n" + "".join(
            f"    {line}\n" for line in place
        )


def _task_lines(task: asyncio.Task[Any]) -> list[str]:
    """From the outermost coroutine to the one that waits, and what it waits for."""
    import asyncio

    lines: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and len(lines) < _MOST_FRAMES:
        frame = _first(inner, "cr_frame", "gi_frame", "ag_frame")
        code = _first(inner, "cr_code", "gi_code", "ag_code")
        if frame is None and code is None:
            break
        lines.append(_place(code, None if frame is None else frame.f_lineno))
        inner = _through(_first(inner, "cr_await", "gi_yieldfrom", "ag_await"))
    waited = getattr(task, "_fut_waiter", None)
    if task is asyncio.current_task(task.get_loop()):
        lines.append("runs now")
    elif waited is not None:
        lines.append(f"waits for {_waited(waited)}")
    return lines


def _through(awaited: Any) -> Any:
    """What `async for` awaits shows nothing of its generator, but refers to it."""
    if type(awaited).__name__ not in {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}:
        return awaited
    return next((one for one in gc.get_referents(awaited) if _first(one, "ag_code", "cr_code", "gi_code")), None)


def _waited(future: Any) -> str:
    # Tasks have names, other futures don't.
    name = getattr(future, "get_name", None)
    return f"task {name()}" if callable(name) else type(future).__name__


def _thread_lines(frame: FrameType | None) -> list[str]:
    lines: list[str] = []
    while frame is not None and len(lines) < _MOST_FRAMES:
        lines.append(_place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return lines[::-1]


def _place(code: CodeType | None, line: int | None) -> str:
    """Never the value of a variable: those may be secret."""
    if code is None:
        return "?"
    return f"{code.co_qualname} ({code.co_filename}:{line or code.co_firstlineno})"


def _first(found: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(found, name, None)) is not None), None)


def _write(name: str, text: str) -> str:
    """A new file that only this user reads."""
    import tempfile

    try:
        handle, path = tempfile.mkstemp(prefix=f"easyq-{name}-{os.getpid()}-", suffix=".stacks", text=True)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return ""
    return path
