"""Writes docs/reference/commands.md: every command and option of `easyq`, as its own help has them.

`--check` writes nothing and fails where the committed page is stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import click
import docs_pages
from docs_pages import filled, table, text

from easyq.cli import exits
from easyq.cli.group import ALIASES, root

_SERVICES = ("gateway", "scheduler", "dispatcher", "store", "runner")
# Told once at the head of the page.
_EVERYWHERE = {"--server", "--context", "--help"}
_RANGE = re.compile(r"([-.0-9]+)<=x<=([.0-9]+)")
_AT_LEAST = re.compile(r"x>=([.0-9]+)")


def pages() -> dict[str, str]:
    """Returns the page by its name."""
    top = click.Context(root, info_name="easyq", **root.context_settings)
    options = [_option(one, top) for one in root.get_params(top) if _EVERYWHERE.intersection(one.opts)]
    sections: list[str] = []
    for name in root.list_commands(top):
        command = root.get_command(top, name)
        if command is not None and name not in _SERVICES:
            sections += _command(command, name, top)
    parts = {
        "options": table(("option", "meaning"), options),
        "exits": table(("code", "meaning"), [(str(code), text(meaning)) for code, meaning in exits.TABLE]),
        "commands": "\n".join(f"{section.rstrip()}\n" for section in sections),
        "services": "\n".join(f"- `easyq {name}`: [its settings](../settings.md#{name})" for name in _SERVICES),
    }
    return {"commands.md": filled("commands.md", parts)}


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yields the section of a command, then those below it."""
    settings = {**command.context_settings, "terminal_width": 100, "max_content_width": 100}
    ctx = click.Context(command, info_name=name, parent=parent, **settings)
    yield "\n".join((f"## {ctx.command_path}", "", *_body(command, name, ctx)))
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            if found is not None:
                yield from _command(found, below, ctx)


def _body(command: click.Command, name: str, ctx: click.Context) -> Iterator[str]:
    usage = " ".join(command.get_usage(ctx).removeprefix("Usage: ").split())
    yield f"```text\n{usage}\n```\n"
    others = [alias for alias, meant in ALIASES.items() if meant == name and ctx.parent and not ctx.parent.parent]
    if others:
        yield f"Also: {', '.join(f'`easyq {alias}`' for alias in others)}.\n"
    yield from _help(command.help or "")
    own = (one for one in command.get_params(ctx) if isinstance(one, click.Option) and not one.hidden)
    yield table(("option", "meaning"), [_option(one, ctx) for one in own if not _EVERYWHERE.intersection(one.opts)])


def _help(words: str) -> Iterator[str]:
    """Yields the paragraphs of a help text; those that click leaves as they are become blocks."""
    for part in inspect.cleandoc(words).split("\n\n"):
        if part.startswith("\b"):
            lines = part.split("\n")[1:]
            yield "```text\n" + "\n".join(lines) + "\n```\n"
        elif part:
            yield text(" ".join(part.split())) + "\n"


def _option(option: click.Parameter, ctx: click.Context) -> tuple[str, str]:
    spelled, meaning = option.get_help_record(ctx) or ("", "")
    meaning = _AT_LEAST.sub(r"at least \1", _RANGE.sub(r"\1 to \2", meaning))
    return f"`{spelled.replace('INTEGER RANGE', 'N')}`", text(" ".join(meaning.split()))


if __name__ == "__main__":
    sys.exit(docs_pages.main(pages))
