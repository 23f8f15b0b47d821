"""Exit codes of all commands but `run` and `wait`, which end as the container did."""

from __future__ import annotations

OK = 0
#: EasyQ refused, or some of what was asked for failed.
FAILED = 1
#: The command line, a file or a context is wrong; nothing was asked for.
USAGE = 2
#: Nothing answers at the server's address, or not in time.
UNREACHABLE = 3
NOT_FOUND = 4

TABLE = (
    (0, "done"),
    (1, "EasyQ refused, or some of what was asked for failed"),
    (2, "the command line, a file or a context is wrong"),
    (3, "EasyQ can't be reached, or did not answer in time"),
    (4, "no such job, execution, task, host or pool"),
    (125, "the output can't be written: a full disk, a closed stdout"),
    (130, "Ctrl-C"),
    (141, "nobody reads the output any more, as `| head`"),
)

_BY_CODE = {"UNAVAILABLE": UNREACHABLE, "DEADLINE_EXCEEDED": UNREACHABLE, "NOT_FOUND": NOT_FOUND}


def of_error(code: str) -> int:
    """The exit code for an error by the name of its gRPC code."""
    return _BY_CODE.get(code, FAILED)


def worst(codes: list[int]) -> int:
    """The exit code of a command about many things: that of all that failed, if they are the same, else FAILED."""
    bad = {code for code in codes if code != OK}
    return OK if not bad else bad.pop() if len(bad) == 1 else FAILED
