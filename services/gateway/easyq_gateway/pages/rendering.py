"""Templates, and how values are shown in them. Everything is escaped but what is made here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from easyq.v1 import job_pb2
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.convert import to_ms
from easyq_gateway.domain import human, visible
from easyq_gateway.domain.ansi import Ansi
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.shell_words import join_words
from easyq_gateway.pages.static_files import StaticFiles
from easyq_gateway.usecases.excerpts import Line

# Longer texts are cut in tables; whoever wants all of one looks at its own page.
_SHORT = 120
_LONG = 20_000
#: Characters of a line of output that are shown.
MOST_OF_LINE = 4_000


class Renderer:
    """Renders templates."""

    def __init__(self, *, files: StaticFiles, redactor: Redactor, version: str) -> None:
        self._redactor = redactor
        self._environment = Environment(
            loader=PackageLoader("easyq_gateway.pages"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        self._environment.globals.update(
            asset=files.url, version=version, path=path, query=query, percent=human.percent
        )
        self._environment.globals.update(lines_of=lines_of, skip_words=skip_words, trigger_name=trigger_name)
        self._environment.filters.update(
            ago=_ago,
            bytes=human.size,
            count=human.count,
            duration=human.duration,
            exact=human.exact,
            iso=human.iso,
            lower_words=_lower_words,
            ms=to_ms,
            output=output,
            plural=human.plural,
            pretty=self._pretty,
            shown=self._shown,
            long=self._long,
            when=_when,
            words=self._words,
        )

    def render(self, template: str, *, now_ms: int, **context: Any) -> str:
        """Returns a page."""
        return self._environment.get_template(f"{template}.html.j2").render(now=now_ms, **context)

    def _shown(self, text: str, most: int = _SHORT) -> Markup:
        """A text in a line: without passwords in URLs, hidden characters made visible, cut where it is long."""
        text = self._redactor.show("", text[: _LONG + most])
        cut = len(text) > most
        marked = _marked(text[:most].replace("\n", "⏎").replace("\t", " "))
        # Whatever its letters, a text must not turn its neighbours around.
        return Markup("<bdi>{}</bdi>").format(marked + ("…" if cut else ""))

    def _long(self, text: str) -> Markup:
        """A text in full, or nearly."""
        return self._shown_lines(text)

    def _shown_lines(self, text: str) -> Markup:
        text = self._redactor.show("", text)
        more = f"… {human.plural(len(text) - _LONG, 'more character')}" if len(text) > _LONG else ""
        return Markup("<bdi>{}</bdi>{}").format(_marked(text[:_LONG]), more)

    def _words(self, words: Iterable[str], most: int = _SHORT) -> Markup:
        """A command as one would type it into a shell."""
        return self._shown(join_words(words), most)

    def _pretty(self, message: Message) -> Markup:
        """A message, whose secrets are hidden already, as JSON; what is unset is left out."""
        tree = without_nothing(to_tree(message))
        return self._shown_lines(json.dumps(tree, indent=2, ensure_ascii=False))


def path(*segments: str) -> str:
    """Returns a path of ours with each segment quoted."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def query(**parameters: object) -> str:
    """Returns a query of the parameters that are not empty, with its `?`; an empty text for none."""
    told = [(name, str(value)) for name, value in parameters.items() if value not in ("", None)]
    return f"?{urlencode(told)}" if told else ""


def output(lines: Iterable[str], ansi: Ansi | None = None, *, dropped: int = 0) -> Iterator[Markup]:
    """Yields lines of output with their colours. `dropped`: characters of each that were left out before."""
    ansi = ansi or Ansi()
    for line in lines:
        made, left = Markup(""), MOST_OF_LINE
        for run in ansi.line(line):
            text, left = run.text[: max(left, 0)], left - len(run.text)
            if text and run.style.classes:
                made += Markup('<span class="{}">{}</span>').format(run.style.classes, _marked(text))
            elif text:
                made += _marked(text)
        more = dropped + max(0, -left)
        if more:
            made += Markup('<span class="cut">… {}</span>').format(human.plural(more, "more character"))
        yield made


def lines_of(lines: Sequence[Line]) -> Iterator[tuple[Line, Markup]]:
    """Yields lines with their text in colours, each stream with its own."""
    of_stream = {False: Ansi(), True: Ansi()}
    for line in lines:
        for text in output([line.text], of_stream[line.stderr], dropped=line.dropped):
            yield line, text


def trigger_name(number: int) -> str:
    """Returns the name of what made an execution."""
    return job_pb2.Trigger.Kind.Name(number) if number in job_pb2.Trigger.Kind.values() else "?"  # type: ignore[arg-type]


def skip_words(skip: job_pb2.Skip) -> str:
    """Returns why fires did not run: `3 fires: misfired`."""
    reason = job_pb2.Skip.Reason.Name(skip.reason) if skip.reason in job_pb2.Skip.Reason.values() else "?"
    return f"{human.plural(skip.count, 'fire')}: {_lower_words(reason)}"


def _marked(text: str) -> Markup:
    if text.isascii() and text.isprintable():
        return escape(text)
    return Markup("").join(
        Markup('<span class="hidden-char" title="{}">{}</span>').format(piece.name, piece.text)
        if piece.hidden
        else escape(piece.text)
        for piece in visible.pieces(text)
    )


@pass_context
def _ago(context: Context, ms: int) -> Markup:
    """A time (ms) as how long ago it was; exactly on hover, and for scripts."""
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        human.iso(ms), human.exact(ms), human.ago(context["now"] - ms)
    )


@pass_context
def _when(context: Context, message: Message, field: str, otherwise: str = "–") -> Markup:
    """A message's time as how long ago it was."""
    if not message.HasField(field):
        return Markup('<span class="none">{}</span>').format(otherwise)
    value: Timestamp = getattr(message, field)
    return _ago(context, to_ms(value))


def _lower_words(name: str) -> str:
    """An enum's name in words: `TIMED_OUT` → `timed out`."""
    return name.replace("_", " ").lower()


def without_nothing(tree: Any) -> Any:
    """Returns a tree of JSON without what is null or empty."""
    if isinstance(tree, dict):
        return {key: without_nothing(value) for key, value in tree.items() if value not in (None, [], {}, "")}
    if isinstance(tree, list):
        return [without_nothing(value) for value in tree]
    return tree
