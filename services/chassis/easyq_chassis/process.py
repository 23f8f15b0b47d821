"""A service's process: its event loop and what signals do to it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import click
import uvloop

from easyq_chassis import error_reports, outages, stacks
from easyq_chassis.errors import EasyQError, FailedPrecondition, Internal
from easyq_chassis.logs import get_logger, service_name, tell_overdue
from easyq_chassis.rules_file.watch import RulesError

_STOPS = (signal.SIGTERM, signal.SIGINT)
# Characters of the stacks that stand in the log; the file has all of them.
_MOST_TOLD = 60_000
# Seconds that error handlers get at the end of the process, in order and by an error.
_LAST_WORDS, _DYING_WORDS = 2.0, 5.0


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs ``main`` until it returns.

    The first SIGTERM or SIGINT sets the event that ``main`` was given, on which it has to finish in order; the second
    ends the process at once, with status 130, also one whose event loop is stuck. SIGUSR2 writes the stacks of all
    tasks and threads. A rules file or a database that can't be used ends it with status 2, as wrong settings do: trying
    again won't help. Any other error ends it with status 1. Whatever ends it is told by the log and to the error
    handlers.
    """
    threading.excepthook = _on_thread_failed
    grace = _LAST_WORDS
    try:
        uvloop.run(_supervised(main))
    except (EasyQError, RulesError) as error:
        grace = _DYING_WORDS
        get_logger().error("cannot_start", error=str(error), **_reason(error))
        error_reports.report_error(error, "process", fatal=True)
        sys.exit(2 if isinstance(error, RulesError | FailedPrecondition | Internal) else 1)
    except Exception as error:  # noqa: BLE001 - it ends the process, and shall be a line of the log as all else is
        grace = _DYING_WORDS
        get_logger().error("process_ended", error=str(error), exc_info=error)
        error_reports.report_error(error, "process", fatal=True)
        sys.exit(1)
    finally:
        error_reports.close(grace)
        # An interpreter that ends looks through all objects for garbage: longer than all the rest of a stop takes.
        gc.freeze()


def _reason(error: EasyQError | RulesError) -> dict[str, str]:
    return {"reason": error.reason} if isinstance(error, EasyQError) else {}


async def _supervised(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    heard = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            os._exit(130)
        heard = True
        loop.call_soon_threadsafe(begins_to_stop, signal.Signals(number))

    def begins_to_stop(number: signal.Signals) -> None:
        get_logger().info("stopping", signal=number.name)
        stop.set()

    loop.set_exception_handler(_on_task_failed)
    # Not by `add_signal_handler`: uvloop's (0.23) calls twice for one signal that comes while it takes another, and not
    # at all while the loop is stuck.
    for number in _STOPS:
        signal.signal(number, on_signal)
        signal.siginterrupt(number, False)
    stacks.on_signal(service_name(), _tell_stacks, loop)
    telling = [
        asyncio.create_task(tell_overdue(), name="log-bounds"),
        asyncio.create_task(outages.watch(), name="outages"),
    ]
    try:
        await main(stop)
    finally:
        for task in telling:
            task.cancel()
        if not heard:
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)


def _tell_stacks(path: str, text: str, tasks: int, threads: int) -> None:
    # Not bounded: somebody asked for each.
    get_logger().warning("stacks", path=path, tasks=tasks, threads=threads, text=text[:_MOST_TOLD], bounded=False)


def _on_task_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody waited for: of a task, of a callback."""
    loop.default_exception_handler(context)
    error = context.get("exception")
    # Neighbours that went away in the middle of something are no faults of ours.
    if isinstance(error, Exception) and not isinstance(error, OSError):
        error_reports.report_error(error, "task")


def _on_thread_failed(args: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(args)
    if isinstance(args.exc_value, Exception):
        error_reports.report_error(args.exc_value, "thread")


def service_command(name: str, main: Callable[[list[str]], None]) -> click.Command:
    """Returns the ``easyq NAME`` command of a service; the service's settings parse its flags and print its help."""

    @click.command(
        name=name,
        help=f"Run the {name} service (`easyq {name} --help` lists its settings).",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        main(list(arguments))

    return command
