"""The command `easyq`."""

from __future__ import annotations

import errno
import gc
import sys

from easyq.cli import interrupts


def main() -> None:
    """Entry point of the distribution."""
    # First of all: importing takes long enough for a Ctrl-C.
    interrupts.leave_at_once()
    from easyq.cli.stdio import BROKEN_PIPE, OWN_FAILURE, drop_output, failed_in_echo, occupy_closed, say, words_of

    occupy_closed()
    from easyq.cli.group import root

    try:
        root(prog_name="easyq")
    except OSError as error:
        if not failed_in_echo(error):
            raise
        if error.errno == errno.EPIPE:
            drop_output()
            sys.exit(BROKEN_PIPE)
        say(f"could not write to stdout: {words_of(error)}")
        drop_output()
        sys.exit(OWN_FAILURE)
    finally:
        # An interpreter that ends looks through all objects for garbage: a third of a short command's time.
        gc.freeze()
