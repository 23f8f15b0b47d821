"""`python -m easyq_gateway`, and `easyq gateway`."""

from __future__ import annotations

import sys
from functools import partial

from easyq_chassis import error_reports, logs, process
from easyq_chassis.settings import load
from easyq_gateway.app import serve
from easyq_gateway.config import GatewaySettings


def main(argv: list[str]) -> None:
    """Runs the gateway with the settings of the environment and of `argv`."""
    settings = load(GatewaySettings, argv, prog="easyq gateway")
    logs.configure("gateway", level=settings.log_level, fmt=settings.log_format)
    error_reports.configure("gateway", settings)
    process.run(partial(serve, settings))


command = process.service_command("gateway", main)

if __name__ == "__main__":
    main(sys.argv[1:])
