"""The schema's own rules (protovalidate), with paths in JSON names and words for people."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from easyq._vendor.buf.validate import validate_pb2
from easyq_gateway.domain.problems import Problems, key_path, member_path

_NAME = "must be 1 to 128 letters, digits, `.`, `_` or `-`, beginning with a letter or digit"

#: What a pattern of the schema wants, in words.
PATTERNS: dict[str, str] = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$": _NAME,
    r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$": _NAME.replace("`_` or", "`_`, `/` or"),
    r"^[\x20-\x7e]{0,256}$": "must be at most 256 printable ASCII characters",
    r"^[^\s\x00-\x1f\x7f]+$": "must not contain spaces or control characters",
    r"^[^\s\x00-\x1f]*$": "must not contain spaces or control characters",
    r"^[^\x00]*$": "must not contain NUL",
    r"^[^=\x00]+$": "the name must not contain `=` or NUL",
    r"^([0-9]{1,3}(-[0-9]{1,3})?|oom|timeout)$": "must be an exit code (75), a range (100-110), `oom` or `timeout`",
    r"^(/[^\x00]*)?$": "must be an absolute path",
    r"^/[^\x00]+$": "must be an absolute path in the container, below its root",
    r"^([a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?)?$": "must be a platform: os/arch[/variant], as linux/amd64",
    r"^/dev/[^\s:\x00]+(:/[^\s:\x00]+(:[rwm]{1,3})?)?$": "must be a device: /dev/x[:/dev/y[:rwm]]",
    r"^[^=]+=.*$": "must be key=value",
    r"^[hH][tT][tT][pP][sS]?://[\x21-\x7e]+$": "must be http:// or https://, printable ASCII without spaces",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$": "must be a name that HTTP has for headers: letters, digits, `-`, `_`",
    r"^[\x20-\x7e\t]*$": "must be printable ASCII",
    r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$": _NAME,
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$": (
        "must be an e-mail address: name@example.org"
    ),
}

_REQUIRED = frozenset({"required", "string.min_bytes", "string.min_len"})


# Keeps what it has compiled, which is the same for all.
_VALIDATOR = protovalidate.Validator()


class SchemaRules:
    """Checks messages against the rules that stand on their fields."""

    def check(self, message: Message, path: str, problems: Problems) -> None:
        """Notes every broken rule; `path` is the message's own place in the request."""
        for violation in _VALIDATOR.collect_violations(message):
            where, field = _locate(message.DESCRIPTOR, violation.proto, path)
            problems.add(where, _words(violation, field))


def choices(field: FieldDescriptor) -> tuple[str, ...]:
    """Returns the names of an enum field that may be asked for: those that its rules list, else all but the zero."""
    options: Any = field.GetOptions()
    rules = options.Extensions[validate_pb2.field]
    listed = getattr((rules.repeated.items if field.is_repeated else rules).enum, "in")
    values = field.enum_type.values if field.enum_type is not None else ()
    return tuple(value.name for value in values if value.number and (not listed or value.number in listed))


def bounds_of(field: FieldDescriptor, least: int, most: int) -> tuple[int, int]:
    """Returns the bounds that the rules of a whole number's field leave of those of its kind."""
    options: Any = field.GetOptions()
    rules = options.Extensions[validate_pb2.field]
    rules = rules.repeated.items if field.is_repeated else rules
    kind = rules.WhichOneof("type")
    found = getattr(rules, kind) if kind else None
    for name, offset in (("gte", 0), ("gt", 1)):
        if found is not None and found.HasField(name):
            least = max(least, getattr(found, name) + offset)
    for name, offset in (("lte", 0), ("lt", -1)):
        if found is not None and found.HasField(name):
            most = min(most, getattr(found, name) + offset)
    return least, most


def _locate(descriptor: Any, violation: Any, path: str) -> tuple[str, FieldDescriptor | None]:
    field: FieldDescriptor | None = None
    for element in violation.field.elements if violation.field else ():
        field = descriptor.fields_by_name[element.field_name]
        path = member_path(path, field.json_name)
        if element.subscript is not None:
            value = element.subscript.value
            path = f"{path}[{value}]" if element.subscript.field == "index" else key_path(path, str(value))
        if field.message_type is not None:
            descriptor = field.message_type
    return path, field


def _words(violation: Any, field: FieldDescriptor | None) -> str:
    proto = violation.proto
    if proto.rule_id in _REQUIRED and violation.rule_value == 1:
        return "must not be empty" if proto.for_key else "is required"
    if proto.rule_id == "string.pattern":
        return PATTERNS.get(violation.rule_value, "has a wrong form")
    if proto.rule_id in {"enum.defined_only", "enum.in", "enum.not_in"} and field is not None:
        return f"must be one of {', '.join(choices(field))}"
    return str(proto.message) or f"breaks the rule {proto.rule_id}"
