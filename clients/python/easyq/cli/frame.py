"""What the commands have in common: server, output, errors, watching."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from easyq.cli import completions, contexts, exits
from easyq.cli.env import is_text
from easyq.cli.stdio import BROKEN_PIPE, OutputGone, columns, print_line, say, stdout_is_terminal, words_of
from easyq.cli.table import Screen, paint

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.cursor import Since
    from easyq.errors import EasyQError

#: Most seconds for one answer; a person waits for it.
_TIMEOUT = 15.0
_WATCH_EVERY = 2.0
_DATE = re.compile(r"[0-9]{4}-")


@dataclass(frozen=True, slots=True)
class View:
    """One look at something: for programs, and (made when asked for) for people. `last`: a watch ends with it."""

    tree: Any
    lines: Callable[[Screen], list[str]]
    last: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The server of this command, found out when it is needed."""

    server: str | None = None
    context: str | None = None

    def find(self) -> contexts.Choice:
        """Raises ContextError."""
        return contexts.choose(self.server, self.context, os.environ, contexts.file_path(os.environ))

    @property
    def choice(self) -> contexts.Choice:
        """Ends the process where there is none."""
        try:
            return self.find()
        except contexts.ContextError as error:
            fail(str(error), exits.USAGE)

    @contextmanager
    def calling(self) -> Iterator[Client]:
        """A client; an error of a call ends the process in a line."""
        # gRPC's own lines would stand between ours.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        address = self.choice.server
        from easyq.client import Client
        from easyq.errors import EasyQError

        try:
            with Client(address, timeout=_TIMEOUT) as client:
                yield client
        except EasyQError as error:
            fail_with(error, address)


@dataclass(frozen=True, kw_only=True, slots=True)
class Out:
    """How a command shows what it found."""

    format: str = "table"
    watch: float | None = None

    @property
    def wide(self) -> bool:
        return self.format == "wide"

    @property
    def for_people(self) -> bool:
        return self.format in {"table", "wide"}

    def show(self, look: Callable[[], View]) -> None:
        """Prints what `look` gives; again and again where it is watched."""
        if self.watch is None:
            self.print(look())
        else:
            _Watch(self, look, self.watch).run()

    def print(self, view: View, *, otherwise: str = "") -> None:
        """`otherwise` is what must not be lost where this can't be printed."""
        for line in self.lines(view):
            tell(line, otherwise=otherwise)

    def lines(self, view: View) -> list[str]:
        from easyq.cli import document

        if self.format == "json":
            return [document.to_json(view.tree, compact=self.watch is not None)]
        if self.format == "yaml":
            text = document.to_yaml(view.tree)
            return [f"---\n{text}" if self.watch is not None else text]
        screen = this_screen()
        # Who asks for all columns gets them, however narrow the terminal is.
        return view.lines(Screen(colours=screen.colours) if self.wide else screen)


@dataclass(slots=True)
class _Watch:
    out: Out
    look: Callable[[], View]
    every: float
    _shown: list[str] = field(default_factory=list)
    _broken: bool = False

    def run(self) -> None:
        from easyq.errors import DeadlineExceeded, ResourceExhausted, Unavailable

        while True:
            try:
                view = self.look()
            except (Unavailable, DeadlineExceeded, ResourceExhausted) as error:
                if not self._shown:
                    raise
                if not self._broken:
                    say(f"{error.message}; trying again")
                self._broken = True
            else:
                self._broken = False
                self._draw(view)
                if view.last:
                    return
            time.sleep(self.every)

    def _draw(self, view: View) -> None:
        lines = self.out.lines(view)
        if self.out.for_people and stdout_is_terminal():
            self._redraw(lines)
        elif lines != self._shown:
            if self._shown and self.out.for_people:
                tell("")
            for line in lines:
                tell(line)
        self._shown = lines or [""]

    def _redraw(self, lines: Sequence[str]) -> None:
        screen = this_screen()
        wide, high = columns(), rows()
        head = paint(f"every {self.every:g}s: {time.strftime('%H:%M:%S')}; Ctrl-C ends it"[: wide - 1], "dim", screen)
        shown = list(lines[: max(1, high - 3)])
        if len(shown) < len(lines):
            shown[-1] = paint(f"… {len(lines) - len(shown) + 1} more lines", "dim", screen)
        start = "\x1b[2J\x1b[H" if not self._shown else "\x1b[H"
        tell(start + "".join(f"{line}\x1b[K\n" for line in (head, "", *shown)) + "\x1b[J", end="")


def rows() -> int:
    """Lines of the terminal."""
    try:
        return os.get_terminal_size(1).lines or 24
    except OSError:
        return 24


def this_screen() -> Screen:
    """What this process's stdout shows."""
    if not stdout_is_terminal():
        return Screen(columns=_forced_columns())
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return Screen(columns=columns(), colours=not dumb and not os.environ.get("NO_COLOR"))


def _forced_columns() -> int | None:
    """COLUMNS, where somebody set it for a pipe."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and text.isascii() and int(text) else None


def tell(line: str, *, end: str = "\n", otherwise: str = "") -> None:
    """A line on stdout; where that is gone the process ends. `otherwise` is said on stderr then: what was done, and
    can't be asked for again, as the id of a new job."""
    try:
        print_line(line, end=end)
    except OutputGone as gone:
        if otherwise:
            say(f"{gone}; {otherwise}")
        elif gone.exit_code != BROKEN_PIPE:
            say(str(gone))
        sys.exit(gone.exit_code)


def fail(text: str, code: int = exits.FAILED) -> NoReturn:
    """Ends the process with a line on stderr."""
    say(text)
    sys.exit(code)


def fail_with(error: EasyQError, address: str) -> NoReturn:
    """Ends the process with what an error tells."""
    say(told(error, address))
    sys.exit(exits.of_error(error.code))


def told(error: EasyQError, address: str) -> str:
    """An error in one line; where nothing of ours answered, what is there instead."""
    from easyq.cli.sentences import sentence

    if error.reason or error.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"}:
        return sentence(error)
    from easyq.cli.probe import look_at

    return look_at(address).words(address) or sentence(error)


# ------------------------------------------------------------------------------------------------------------ options


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--server` and `--context`, as `server_` and `context_`."""
    text = "EasyQ's gRPC address.  [env: EASYQ_SERVER; default: the current context's, else 127.0.0.1:10001]"
    server = click.option("--server", "server_", metavar="HOST:PORT", callback=text_only, help=text)
    context = click.option(
        "--context",
        "context_",
        metavar="NAME",
        callback=text_only,
        shell_complete=completions.context_names,
        help="A server by its name (see easyq context).",
    )
    return server(context(command))


def with_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--server` and `--context`, and hands them on as `server`."""

    @server_options
    @functools.wraps(command)
    def wrapped(*args: Any, server_: str | None, context_: str | None, **options: Any) -> Any:
        above = _above(click.get_current_context())
        if server_ is not None or context_ is not None:
            above = Server(server=server_, context=context_)
        return command(*args, server=above, **options)

    return wrapped


def _above(ctx: click.Context) -> Server:
    """What was given before the subcommand."""
    while ctx.parent is not None:
        ctx = ctx.parent
        if isinstance(ctx.obj, Server):
            return ctx.obj
    return Server()


def with_output(*, watch: bool = False, wide: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds `-o` and `--json` (and `--watch`), and hands them on as `out`."""
    formats = ("table", *(("wide",) if wide else ()), "json", "yaml")

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("-o", "--output", "format_", type=click.Choice(formats), default="table", help="How to show it.")
        @click.option("--json", "json_", is_flag=True, help="The same as -o json.")
        @functools.wraps(command)
        def wrapped(
            *args: Any, format_: str, json_: bool, watch_: bool = False, every_: float = _WATCH_EVERY, **options: Any
        ) -> Any:
            out = Out(format="json" if json_ else format_, watch=every_ if watch_ else None)
            return command(*args, out=out, **options)

        if not watch:
            return wrapped
        wrapped = click.option(
            "--every",
            "every_",
            type=click.FloatRange(0.1, 3600),
            default=_WATCH_EVERY,
            show_default=True,
            metavar="SECONDS",
            help="How often --watch looks.",
        )(wrapped)
        return click.option("-w", "--watch", "watch_", is_flag=True, help="Show it again until Ctrl-C.")(wrapped)

    return decorate


def text_only(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """A callback of click's: what goes to the server is text."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str) and not is_text(one):
            raise click.BadParameter(f"{one!r} is not valid UTF-8.")
    return value


def named(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback of click's: the name or id of something. An empty one is what a variable leaves that is not set; for
    the server it would be all of them, or another path."""
    text_only(ctx, parameter, value)
    given = parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    if given and "" in (value if isinstance(value, tuple) else (value,)):
        raise click.BadParameter("must not be empty.")
    return value


def duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """A callback of click's: a duration in milliseconds."""
    from easyq.durations import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error


def moment(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Since | None:
    """A callback of click's: a time, or how long ago."""
    if value is None:
        return None
    try:
        if _DATE.match(value):
            return datetime.fromisoformat(value)
        from easyq.durations import parse_duration

        parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is neither how long ago, as 10m, nor a time, as 2030-01-31T08:00:00Z."
        ) from error
    return value


def pairs_of(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """A callback of click's: `KEY=VALUE`, many times."""
    found: dict[str, str] = {}
    for one in value:
        key, equals, rest = one.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{one!r} is not KEY=VALUE.")
        if not is_text(one):
            raise click.BadParameter(f"{key!r} is not valid UTF-8.")
        found[key] = rest
    return found


def read_file(path: str) -> bytes:
    """A file's content; `-` is stdin. Ends the process where it can't be read."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        fail(f"{'stdin' if path == '-' else path}: {words_of(error)}", exits.USAGE)


def for_each(names: Sequence[str], act: Callable[[str], str], address: str) -> NoReturn:
    """Does something to each of `names` and tells what came of it; one that fails keeps no other back."""
    from easyq.errors import EasyQError

    codes = []
    for name in names:
        try:
            done = act(name)
            tell(done, otherwise=done)
            codes.append(exits.OK)
        except EasyQError as error:
            say(f"{name}: {told(error, address)}")
            codes.append(exits.of_error(error.code))
            if codes[-1] == exits.UNREACHABLE:
                break
    sys.exit(exits.worst(codes))
