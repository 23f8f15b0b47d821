"""Services that do nothing, for tests of the supervisor.

`install(folder)` makes packages `easyq_gateway` and so on, which a child finds before the real ones when `folder`
stands in its PYTHONPATH.
"""

from pathlib import Path

KINDS = ("gateway", "scheduler", "dispatcher", "store", "runner")

_MAIN = """
from tests.fakes.services.service import main

main({kind!r})
"""


def install(folder: Path) -> Path:
    """Writes the packages; what to put in PYTHONPATH."""
    for kind in KINDS:
        package = folder / f"easyq_{kind}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(_MAIN.format(kind=kind), encoding="utf-8")
    return folder
