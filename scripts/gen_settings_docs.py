"""Writes docs/settings.md, the table of every setting, from the settings classes themselves.

`--check` writes nothing and fails where the committed page is stale.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from easyq_chassis.settings import ServiceSettings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
SERVICES = ("gateway", "scheduler", "store", "dispatcher", "runner")
HEAD = """# Settings

Each service takes its settings from the environment and from flags, which win; `easyq SERVICE --help` says the same as
this page. `easyq up` has its own flags and a config file (`easyq up --help`) and sets these for its children; a
variable that is set in its environment and that it doesn't set itself reaches them too.

This page is written by `make docs-settings` from the services' `config.py`.
"""


def settings_class(service: str) -> type[ServiceSettings]:
    """Returns the one settings class of a service."""
    module = importlib.import_module(f"easyq_{service}.config")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise SystemExit(f"easyq_{service}.config has {len(found)} settings classes, not one")
    return found[0]


def rows(cls: type[ServiceSettings]) -> list[str]:
    """Returns a table row for each setting, the service's own first."""
    prefix = str(cls.model_config.get("env_prefix", ""))
    common = ServiceSettings.model_fields
    names = sorted(cls.model_fields, key=lambda name: name in common)
    return [row(prefix, name, cls.model_fields[name]) for name in names]


def row(prefix: str, name: str, field: FieldInfo) -> str:
    """Returns one row: flag, variable, default, meaning."""
    flag = f"`--{name.replace('_', '-')}`"
    description = " ".join((field.description or "").split()).replace("|", "\\|")
    default = shown(field.get_default(call_default_factory=False))
    return f"| {flag} | `{prefix}{name.upper()}` | {default} | {description} |"


def shown(default: Any) -> str:
    """Returns a default as it would be typed; empty where there is none or it depends on the machine."""
    if default is PydanticUndefined or default is None or default in ((), "", [], {}):
        return ""
    if isinstance(default, list | tuple):
        return f"`{','.join(map(str, default))}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`".replace("|", "\\|")


def page() -> str:
    """Returns the whole page."""
    parts = [HEAD]
    for service in SERVICES:
        parts.append(f"\n## {service}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n")
        parts.append("\n".join(rows(settings_class(service))) + "\n")
    return "".join(parts)


def main() -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where the page is stale")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text)
        return 0
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    print("docs/settings.md is stale: run `make docs-settings` and commit it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
