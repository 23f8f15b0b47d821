"""What a changed config file changes, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from easyq_supervisor.domain.options import FIELDS, RULES, Options
from easyq_supervisor.domain.rules import Rules, Table, rules_tables


def rule_changes(old: Rules, new: Rules) -> list[str]:
    """One part of a sentence for each rule that came, went or changed; empty where all are the same."""
    before, after = rules_tables(old), rules_tables(new)
    return [words for kind in before for words in _changes(kind, before[kind], after[kind])]


def needing_restart(running: Options, new: Options) -> list[str]:
    """The settings, as the config file names them, whose change reaches nobody who runs."""
    names = {field: key for key, field in FIELDS.items()}
    return [
        names.get(field.name, field.name).replace("_", "-")
        for field in fields(Options)
        if field.name not in RULES and getattr(running, field.name) != getattr(new, field.name)
    ]


def _changes(kind: str, before: Sequence[Table], after: Sequence[Table]) -> list[str]:
    if list(before) == list(after):
        return []
    old, new = ({_key(table): table for table in tables} for tables in (before, after))
    words = [f"{kind} {key!r} gone" for key in old if key not in new]
    words += [f"{kind} {key!r} new" for key in new if key not in old]
    words += [
        f"{kind} {key!r}: {', '.join(_differences(old[key], new[key]))}"
        for key in new
        if key in old and old[key] != new[key]
    ]
    # The first that matches holds.
    if [key for key in old if key in new] != [key for key in new if key in old]:
        words.append(f"order of {kind} tables changed")
    return words


def _differences(old: Table, new: Table) -> list[str]:
    names = {**old, **new}
    return [f"{name} {_shown(old, name)} → {_shown(new, name)}" for name in names if old.get(name) != new.get(name)]


def _shown(table: Table, name: str) -> str:
    return repr(table[name]) if name in table else "unset"


def _key(table: Table) -> str:
    return str(table.get("name", table["pattern"]))
