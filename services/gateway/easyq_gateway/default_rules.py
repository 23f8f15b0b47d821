"""The tables `[[default]]` of the rules file → defaults by task, checked by the schema's own rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from easyq.v1 import spec_pb2
from easyq_chassis.rules_file import tables
from easyq_gateway import convert
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.json_text import parse_json
from easyq_gateway.codec.rules import SchemaRules
from easyq_gateway.domain.defaults import DefaultRule, Defaults
from easyq_gateway.domain.problems import Problem, Problems, merge
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.spec import check_spec

#: What a table may have besides `pattern`, and which field of a spec that is the default of.
FIELDS: Mapping[str, str] = {
    "retries": "retries",
    "backoffMin": "backoff.min",
    "backoffFactor": "backoff.factor",
    "backoffMax": "backoff.max",
    "backoffJitter": "backoff.jitter",
    "backoffMaxElapsed": "backoff.maxElapsed",
    "retryOn": "retryOn",
    "infraRetries": "infraRetries",
    "timeout": "timeout",
    "stopGrace": "stopGrace",
    "priority": "priority",
    "startDeadline": "startDeadline",
}
_NAMES = {field: name for name, field in FIELDS.items()}
_LONGEST_PATTERN = 1024


def parser(base: Defaults) -> Callable[[Mapping[str, Any]], tuple[DefaultRule, ...]]:
    """Returns what makes rules of a rules file; `base` is what they leave as it is."""
    schema = SchemaRules()

    def parse(document: Mapping[str, Any]) -> tuple[DefaultRule, ...]:
        """Raises `ValueError` naming the table and its field."""
        return tuple(
            _rule(f"default[{index}]", table, base, schema) for index, table in enumerate(tables(document, "default"))
        )

    return parse


def _rule(where: str, table: Mapping[str, Any], base: Defaults, schema: SchemaRules) -> DefaultRule:
    for name in table:
        if name != "pattern" and name not in FIELDS:
            raise ValueError(f"{where}.{name[:64]} is none of pattern, {', '.join(FIELDS)}")
    said = _said(where, {name: value for name, value in table.items() if name != "pattern"}, base, schema)
    return DefaultRule(
        pattern=_pattern(f"{where}.pattern", table.get("pattern")), defaults=convert.defaults_from(said, base)
    )


def _pattern(where: str, text: object) -> re.Pattern[str]:
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_PATTERN:
        raise ValueError(f"{where} must be a regex of 1 to {_LONGEST_PATTERN} characters")
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{where} is no regex: {error}") from error


def _said(where: str, table: Mapping[str, Any], base: Defaults, schema: SchemaRules) -> spec_pb2.JobSpec:
    tree: dict[str, Any] = {}
    for name, value in table.items():
        outer, _, inner = FIELDS[name].partition(".")
        if inner:
            tree.setdefault(outer, {})[inner] = value
        else:
            tree[outer] = value
    said, read, broken = spec_pb2.JobSpec(image="a"), Problems(), Problems()
    decode(parse_json(json.dumps(tree, default=str).encode()), said, "", read)
    schema.check(said, "", broken)
    facts = convert.facts_of(said, base)
    semantic = check_spec(facts, now_ms=0, redactor=Redactor(), default_min_ms=base.backoff_min_ms)
    problems = merge(read, broken, semantic)
    if problems:
        raise ValueError("; ".join(_words(where, problem) for problem in problems[:4]))
    return said


def _words(where: str, problem: Problem) -> str:
    field, bracket, rest = problem.path.partition("[")
    return f"{where}.{_NAMES.get(field, field)}{bracket}{rest} {problem.message}"
