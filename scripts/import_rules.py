"""A contract for import-linter: packages of a given name import themselves and harmless standard modules only.

It is an allow-list, unlike import-linter's `forbidden`: a library that nobody thought of is refused as well.
"""

from __future__ import annotations

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class PureContract(Contract):
    """Settings: `package`, the name of pure packages; `allowed`, names of modules; `impure`, of top-level ones."""

    type_name = "pure"

    # import-linter replaces these with the values of the contract.
    package: str = fields.StringField()  # type: ignore[assignment]
    allowed: list[str] = fields.ListField(subfield=fields.StringField(), required=False, default=[])  # type: ignore[assignment]
    impure: list[str] = fields.ListField(subfield=fields.StringField(), required=False, default=[])  # type: ignore[assignment]

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - the base class has it
        broken = []
        for importer in sorted(graph.modules):
            home = self._home(importer)
            if home is None:
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if not self._may_import(home, imported):
                    lines = [
                        detail["line_number"]
                        for detail in graph.get_import_details(importer=importer, imported=imported)
                    ]
                    broken.append((importer, imported, lines))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, lines in check.metadata["broken"]:
            where = ", ".join(f"l.{line}" for line in lines)
            output.print_error(f"{importer} must not import {imported} ({where})", bold=False)
        output.new_line()

    def _home(self, module: str) -> str | None:
        """The pure package that `module` is or lies in."""
        parts = module.split(".")
        if self.package not in parts[1:]:
            return None
        return ".".join(parts[: parts.index(self.package, 1) + 1])

    def _may_import(self, home: str, imported: str) -> bool:
        if imported == home or imported.startswith(f"{home}."):
            return True
        top = imported.partition(".")[0]
        if imported in self.allowed or top in self.allowed:
            return True
        return top in sys.stdlib_module_names and top not in self.impure
