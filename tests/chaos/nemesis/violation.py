"""What a check found."""

from typing import NamedTuple


class Violation(NamedTuple):
    """`rule` is the name of what was broken, `subject` the job, execution or limit, `message` a sentence."""

    rule: str
    subject: str
    message: str
