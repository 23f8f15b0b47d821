"""The document as one page of HTML: no script, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from easyq_gateway.openapi.rules import Schema

_CODE = re.compile(r"`([^`\n]+)`")
_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}
# What an integer's own width says.
_WIDTHS = {-(2**31), 2**31 - 1, 2**32 - 1, -(2**63), 2**63 - 1, 2**64 - 1}
_REF = "#/components/schemas/"


def render(document: Schema) -> str:
    """Returns the page."""
    environment = Environment(
        loader=PackageLoader("easyq_gateway.openapi"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(prose=prose, type=type_words, limits=limits, pretty=_pretty)
    page = environment.get_template("docs.html.j2")
    return page.render(document=document, groups=list(_groups(document)), resolve=lambda it: _resolved(document, it))


def style() -> str:
    """Returns the page's style."""
    return resources.files("easyq_gateway.openapi").joinpath("templates", "docs.css").read_text(encoding="utf-8")


def prose(text: str) -> Markup:
    """Returns a comment as HTML: paragraphs, lists, and code between backticks."""
    made = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        plain = " ".join(line for line in lines if not line.startswith("- "))
        if plain:
            made.append(Markup("<p>{}</p>").format(_inline(plain)))
        items = [Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines if line.startswith("- ")]
        if items:
            made.append(Markup("<ul>{}</ul>").format(Markup("").join(items)))
    return Markup("").join(made)


def _inline(text: str) -> Markup:
    parts = _CODE.split(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def type_words(schema: Schema) -> Markup:
    """Returns what a schema takes, in words, with links to named schemas."""
    words = [one for one in dict.fromkeys(_type_words(schema)) if one != "null"]
    return Markup(" or ").join(words) if words else Markup("anything")


def _type_words(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        yield Markup('<a href="#schema-{0}">{0}</a>').format(name)
        return
    for one in schema.get("anyOf", ()):
        yield from _type_words(one)
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array":
            yield Markup("list of {}").format(type_words(schema["items"]))
        elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            yield Markup("object of {}").format(type_words(schema["additionalProperties"]))
        elif kind == "string" and schema.get("format") == "date-time":
            yield Markup("time")
        else:
            yield escape(kind)


def limits(schema: Schema) -> str:
    """Returns the bounds of a schema, in words."""
    found = [
        words.format(schema[name])
        for name, words in _LIMITS.items()
        if name in schema and schema[name] not in _WIDTHS and not (name == "minLength" and schema[name] == 1)
    ]
    return ", ".join(found)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _groups(document: Schema) -> Iterator[dict[str, Any]]:
    """Yields each tag with its calls; a call has every place where it can be made."""
    calls: dict[str, dict[str, Any]] = {}
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            call = calls.setdefault(operation["x-rpc"], {"operation": operation, "places": []})
            if len(operation["parameters"]) < len(call["operation"]["parameters"]):
                call["operation"] = operation
            call["places"].append({"verb": verb.upper(), "path": path})
    for tag in document["tags"]:
        of_tag = [call for call in calls.values() if tag["name"] in call["operation"]["tags"]]
        yield {"tag": tag, "calls": of_tag}


def _resolved(document: Schema, schema: Schema) -> Schema:
    """Returns what a reference stands for; anything else as it is."""
    found = document
    for part in schema.get("$ref", "").removeprefix("#/").split("/"):
        if part:
            found = found[part]
    return schema if found is document else found
