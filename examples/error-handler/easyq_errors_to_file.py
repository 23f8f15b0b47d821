"""Appends each error report to a file, as a line of JSON: an example of an error handler."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from easyq_chassis.error_reports import Report, Surroundings


class ErrorsToFile:
    """Writes to the file that ERRORS_TO_FILE names."""

    def __init__(self, around: Surroundings) -> None:
        self._who = {"service": around.service, "farm": around.farm, "environment": around.environment}
        self._path = Path(os.environ["ERRORS_TO_FILE"])

    def handle(self, report: Report) -> None:
        """Raises OSError where it can't be written, which counts as a failure: it is brought again if it may be."""
        line = json.dumps({**self._who, **asdict(report)}, default=lambda value: value.value)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Holds nothing."""
