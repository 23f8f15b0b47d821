"""protovalidate's rules on a field → keywords of JSON Schema. What that can't say is left to the field's comment."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from easyq._vendor.buf.validate import validate_pb2

Schema: TypeAlias = dict[str, Any]

_KEYWORDS = {
    "min_len": "minLength",
    "max_len": "maxLength",
    # A character has at least one byte: true, if not all that is asked.
    "max_bytes": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_pairs": "minProperties",
    "max_pairs": "maxProperties",
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
}
_BOUNDS = ("gte", "gt", "lte", "lt")
# RE2 knows ASCII's white space only, JSON Schema's dialect that of Unicode.
_WHITE = r"\t\n\f\r "


def rules_of(field: FieldDescriptor) -> Any:
    """Returns the rules that stand on a field (FieldRules)."""
    options: Any = field.GetOptions()
    return options.Extensions[validate_pb2.field]


def keywords(rules: Any) -> Schema:
    """Returns the keywords for a field's own value."""
    kind = rules.WhichOneof("type")
    if kind is None or kind in {"duration", "timestamp"}:
        return {}
    found: Schema = {}
    of_kind = getattr(rules, kind)
    for rule, value in of_kind.ListFields():
        if rule.name in _KEYWORDS:
            found[_KEYWORDS[rule.name]] = value
        elif rule.name == "min_bytes":
            found["minLength"] = min(value, 1)
        elif rule.name == "pattern":
            found["pattern"] = portable(value)
        elif rule.name == "not_contains":
            found["not"] = {"pattern": re.escape(value).replace("\\\n", r"\n")}
        elif rule.name == "uuid":
            found["format"] = "uuid"
    return found


def portable(pattern: str) -> str:
    """Returns a pattern of RE2 as one that means the same to readers of JSON Schema."""
    return pattern.replace(r"[^\s", "[^" + _WHITE)


def second_bounds(rules: Any) -> Schema:
    """Returns the bounds of a duration, in seconds."""
    if rules.WhichOneof("type") != "duration":
        return {}
    return {_KEYWORDS[name]: getattr(rules.duration, name).seconds for name in _BOUNDS if rules.duration.HasField(name)}


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without this field breaks its rules."""
    rules = rules_of(field)
    if rules.required:
        return True
    if field.has_presence or rules.WhichOneof("type") is None:
        return False
    of_kind = getattr(rules, rules.WhichOneof("type"))
    if rules.HasField("string"):
        fits = not of_kind.pattern or re.search(of_kind.pattern, "") is not None
        return bool(of_kind.min_len or of_kind.min_bytes or of_kind.uuid or not fits)
    if rules.HasField("enum"):
        return 0 in of_kind.not_in
    return bool(rules.HasField("repeated") and of_kind.min_items > 0)
