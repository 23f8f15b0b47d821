"""`python -m easyq_dispatcher`, and `easyq dispatcher`."""

from __future__ import annotations

import sys
from functools import partial

from easyq_chassis import error_reports, logs, process
from easyq_dispatcher.app import serve
from easyq_dispatcher.config import load


def main(argv: list[str]) -> None:
    """Runs a dispatcher with these flags until it is told to stop."""
    settings = load(argv)
    logs.configure("dispatcher", level=settings.log_level, fmt=settings.log_format)
    error_reports.configure("dispatcher", settings)
    process.run(partial(serve, settings))


command = process.service_command("dispatcher", main)

if __name__ == "__main__":
    main(sys.argv[1:])
