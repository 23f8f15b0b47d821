"""Secrets of specs and executions: hidden where they are shown, and put back where what was shown is sent again.

Which fields may hold some, each with what is hidden of it:

- `envs`, `labels`: values under secret-looking names, and what is secret in URLs (passwords, keys, parameters).
- `metadata`: everything below a secret-looking key, at any depth, and what is secret in URLs.
- `command`, `entrypoint`: what is secret in URLs.
- receivers of webhooks: see `convert_receivers`.
- an execution's error: the values of its secret variables, and what is secret in URLs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from easyq.v1 import job_pb2, spec_pb2
from easyq_gateway import convert_receivers
from easyq_gateway.domain.problems import Problem, key_path, member_path
from easyq_gateway.domain.redaction import MARKER, Redactor, restore, restore_words

_WORDS = ("command", "entrypoint")
_MARKED = "is the mark of a value that was not shown, and none is stored for it; send the value itself"
_LABEL = (
    "holds a secret, by its name or as part of a URL; labels are shown, filtered by, and set on the container: put it "
    "into `envs`, or rename it (redact_names says which names are taken for secrets)"
)
_SCALARS = ("string_value", "number_value", "bool_value")


# ---------------------------------------------------------------------------------------------------------- hiding


def redact_job(job: job_pb2.Job, redactor: Redactor) -> None:
    """Hides the secrets of a job and of its executions, in place."""
    if job.HasField("error"):
        job.error.message = redactor.hide(job.error.message, redactor.secrets_in(job.spec.envs))
    redact_spec(job.spec, redactor)
    for execution in job.executions:
        redact_execution(execution, redactor)


def redact_execution(execution: job_pb2.Execution, redactor: Redactor) -> None:
    """Hides the secrets of an execution, in place."""
    if execution.HasField("error"):
        execution.error.message = redactor.hide(execution.error.message, redactor.secrets_in(execution.envs))
    _redact_map(execution.envs, redactor)
    _redact_words(execution.command, redactor)


def redact_spec(spec: spec_pb2.JobSpec, redactor: Redactor) -> None:
    """Hides the secrets of a spec, in place."""
    _redact_map(spec.envs, redactor)
    _redact_map(spec.labels, redactor)
    for name in _WORDS:
        _redact_words(getattr(spec, name), redactor)
    if spec.HasField("metadata"):
        _redact_struct(spec.metadata, redactor, secret=False)
    convert_receivers.redact(spec, redactor)


def _redact_map(values: Any, redactor: Redactor) -> None:
    if values:
        for name, shown in redactor.changes(values).items():
            values[name] = shown


def _redact_words(words: MutableSequence[str], redactor: Redactor) -> None:
    for index, word in enumerate(words):
        if "://" in word:
            words[index] = redactor.show("", word)


def _redact_struct(struct: Struct, redactor: Redactor, *, secret: bool) -> None:
    for key, value in struct.fields.items():
        _redact_value(value, redactor, secret=secret or redactor.secret_name(key))


def _redact_value(value: Value, redactor: Redactor, *, secret: bool) -> None:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        _redact_struct(value.struct_value, redactor, secret=secret)
    elif kind == "list_value":
        for item in value.list_value.values:
            _redact_value(item, redactor, secret=secret)
    elif secret and kind in _SCALARS and (kind != "string_value" or value.string_value):
        value.string_value = MARKER
    elif kind == "string_value" and "://" in value.string_value:
        value.string_value = redactor.show("", value.string_value)


# ---------------------------------------------------------------------------------------------------- putting back


def are_marked(spec: spec_pb2.JobSpec, redactor: Redactor) -> bool:
    """Whether something of the spec stands for what was not shown."""
    return (
        any(redactor.is_marked(name, value) for name, value in spec.envs.items())
        or next(_marks(spec, redactor), None) is not None
        or convert_receivers.are_marked(spec, redactor)
    )


def put_back(spec: spec_pb2.JobSpec, stored: spec_pb2.JobSpec, redactor: Redactor) -> None:
    """Puts stored values where marks are, in place; marks for which nothing is stored stay."""
    spec.envs.update(restore(redactor, spec.envs, stored.envs).values)
    for name in _WORDS:
        words = getattr(spec, name)
        if any(MARKER in word for word in words):
            words[:] = restore_words(redactor, words, getattr(stored, name))
    if spec.HasField("metadata"):
        _put_back_struct(spec.metadata, stored.metadata, redactor, secret=False)
    convert_receivers.restore(spec, stored, redactor)


def _put_back_struct(sent: Struct, stored: Struct, redactor: Redactor, *, secret: bool) -> None:
    for key, value in sent.fields.items():
        if key in stored.fields:
            below = secret or redactor.secret_name(key)
            _put_back_value(value, stored.fields[key], redactor, secret=below)


def _put_back_value(sent: Value, stored: Value, redactor: Redactor, *, secret: bool) -> None:
    if not _has_mark(sent, redactor, secret=secret):
        return
    if _shown(stored, redactor, secret=secret) == sent:
        sent.CopyFrom(stored)
    elif sent.HasField("struct_value") and stored.HasField("struct_value"):
        _put_back_struct(sent.struct_value, stored.struct_value, redactor, secret=secret)
    elif sent.HasField("list_value") and stored.HasField("list_value"):
        _put_back_items(sent.list_value.values, stored.list_value.values, redactor, secret=secret)


def _put_back_items(sent: Any, stored: Any, redactor: Redactor, *, secret: bool) -> None:
    """By place, as long as there are as many as before; else only what looked like no other."""
    same_places = len(sent) == len(stored)
    for index, item in enumerate(sent):
        if same_places:
            _put_back_value(item, stored[index], redactor, secret=secret)
        elif _has_mark(item, redactor, secret=secret):
            like = [one for one in stored if _shown(one, redactor, secret=secret) == item]
            if like and all(one == like[0] for one in like):
                item.CopyFrom(like[0])


def _shown(stored: Value, redactor: Redactor, *, secret: bool) -> Value:
    shown = Value()
    shown.CopyFrom(stored)
    _redact_value(shown, redactor, secret=secret)
    return shown


# ---------------------------------------------------------------------------------------------------------- marks


def problems(spec: spec_pb2.JobSpec, redactor: Redactor) -> Iterator[Problem]:
    """Yields what is wrong, with paths relative to the spec: marks that stand for nothing, and secrets in labels.

    Those of variables and receivers are told by the rules of these.
    """
    for path in _marks(spec, redactor):
        yield Problem(path=path, message=_MARKED)
    for name, value in spec.labels.items():
        if redactor.show(name, value) != value or redactor.is_marked(name, value):
            yield Problem(path=key_path("labels", name), message=_LABEL)


def _marks(spec: spec_pb2.JobSpec, redactor: Redactor) -> Iterator[str]:
    """Paths of marks in commands and free data."""
    for name in _WORDS:
        yield from _marks_of_words(getattr(spec, name), name, redactor)
    if spec.HasField("metadata"):
        yield from _marks_of_struct(spec.metadata, "metadata", redactor, secret=False)


def _marks_of_words(words: Iterable[str], path: str, redactor: Redactor) -> Iterator[str]:
    for index, word in enumerate(words):
        if redactor.is_marked("", word):
            yield f"{path}[{index}]"


def _marks_of_struct(struct: Struct, path: str, redactor: Redactor, *, secret: bool) -> Iterator[str]:
    for key, value in struct.fields.items():
        below = member_path(path, key) if key.isidentifier() and key.isascii() else key_path(path, key)
        yield from _marks_of_value(value, below, redactor, secret=secret or redactor.secret_name(key))


def _marks_of_value(value: Value, path: str, redactor: Redactor, *, secret: bool) -> Iterator[str]:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        yield from _marks_of_struct(value.struct_value, path, redactor, secret=secret)
    elif kind == "list_value":
        for index, item in enumerate(value.list_value.values):
            yield from _marks_of_value(item, f"{path}[{index}]", redactor, secret=secret)
    elif kind == "string_value" and MARKER in value.string_value:
        text = value.string_value
        if (secret and text == MARKER) or redactor.is_marked("", text):
            yield path


def _has_mark(value: Value, redactor: Redactor, *, secret: bool) -> bool:
    return next(_marks_of_value(value, "", redactor, secret=secret), None) is not None
