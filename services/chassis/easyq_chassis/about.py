"""What runs here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version of EasyQ that runs."""
    try:
        return version("easyq-server")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
