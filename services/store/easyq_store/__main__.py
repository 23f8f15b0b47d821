"""`python -m easyq_store`, and `easyq store`."""

import sys
from functools import partial

from easyq_chassis import error_reports, logs, process
from easyq_chassis.settings import load
from easyq_store.app import serve
from easyq_store.config import StoreSettings


def main(argv: list[str]) -> None:
    """Runs the store with the settings of the environment and of `argv`.

    Ends with status 1 if it can't start now, and with 2 where trying again won't help: wrong settings, a database that
    is newer than this program, is broken, or belongs to another process, a wrong rules file.
    """
    settings = load(StoreSettings, argv, prog="easyq store")
    logs.configure("store", level=settings.log_level, fmt=settings.log_format)
    error_reports.configure("store", settings)
    process.run(partial(serve, settings))


command = process.service_command("store", main)

if __name__ == "__main__":
    main(sys.argv[1:])
