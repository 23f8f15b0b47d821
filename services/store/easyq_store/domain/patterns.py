"""Regexes of callers, matched against whole names in time that no pattern can blow up.

Python's own matcher goes back and tries again, which takes ages for some patterns, and holds the whole process
meanwhile. So the pattern is parsed by Python, and matched here by following all ways through it at once: a name of n
characters takes at most n steps over the pattern's states. What can't be matched so (references back, looking around)
is refused.
"""

import re
from collections.abc import Callable, Sequence
from re import _constants as ops  # type: ignore[attr-defined,unused-ignore]
from re import _parser as parser  # type: ignore[attr-defined,unused-ignore]
from typing import Any

from easyq_chassis.errors import FieldProblem, InvalidArgument

LONGEST = 256
# States of one pattern: what repeats a counted number of times is written out.
_MOST_STATES = 500
# Parts that are written out on the way there: what repeats may make no state at all.
_MOST_PARTS = 5_000

_Test = Callable[[str], bool]

_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
}
_AT_START = (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING)
_AT_END = (ops.AT_END, ops.AT_END_STRING)


def whole_name(pattern: str, field: str = "taskPattern") -> _Test:
    """Returns what tells whether a whole name matches; everything does if the pattern is empty.

    Errors: INVALID_ARGUMENT naming the field (no regex, too large, or one that can't be matched in bounded time).
    """
    if not pattern:
        return lambda _: True
    try:
        return Pattern(pattern).matches
    except ValueError as error:
        problem = FieldProblem(field=field, message=str(error))
        raise InvalidArgument(f"{field}: {error}", fields=[problem]) from error


class Pattern:
    """A regex as an automaton. Raises ValueError with words for people."""

    def __init__(self, pattern: str) -> None:
        if len(pattern.encode(errors="surrogatepass")) > LONGEST:
            raise ValueError(f"has more than {LONGEST} bytes")
        try:
            parsed = parser.parse(pattern)
        except re.error as error:
            raise ValueError(f"is not a regex: {error}") from error
        except (RecursionError, OverflowError) as error:
            raise ValueError("is not a regex of a reasonable size") from error
        flags = parsed.state.flags & ~re.UNICODE.value
        if flags & ~re.IGNORECASE.value:
            raise ValueError("has flags other than (?i)")
        self._ignore_case = bool(flags)
        # Of each state: a test and where a character that passes it leads; or ways that cost none.
        self._tests: list[tuple[_Test, int] | None] = []
        self._ways: list[list[int]] = []
        # States that are passed only before the first, or after the last character.
        self._at_start: set[int] = set()
        self._at_end: set[int] = set()
        self._parts = 0
        self._final = self._state()
        self._first = self._sequence(parsed, self._final)

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        here = self._reachable([self._first], start=True, end=not name)
        for index, char in enumerate(name):
            last = index == len(name) - 1
            following = [way[1] for state in here if (way := self._tests[state]) and self._passes(way[0], char)]
            here = self._reachable(following, start=False, end=last)
            if not here:
                return False
        return self._final in here

    def _passes(self, test: _Test, char: str) -> bool:
        return test(char) or (self._ignore_case and test(char.swapcase()))

    def _reachable(self, states: Sequence[int], *, start: bool, end: bool) -> set[int]:
        seen: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in seen or (state in self._at_start and not start) or (state in self._at_end and not end):
                continue
            seen.add(state)
            waiting += self._ways[state]
        return seen

    # --------------------------------------------------------------------------------------------------- construction
    def _state(self, *ways: int, test: tuple[_Test, int] | None = None) -> int:
        if len(self._ways) >= _MOST_STATES:
            raise ValueError("is too large once its repetitions are written out")
        self._ways.append(list(ways))
        self._tests.append(test)
        return len(self._ways) - 1

    def _sequence(self, items: Any, then: int) -> int:
        """The first state of what matches the items and goes on to `then`."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise ValueError("is too large once its repetitions are written out")
        for op, argument in reversed(list(items)):
            then = self._item(op, argument, then)
        return then

    def _item(self, op: Any, argument: Any, then: int) -> int:
        if op is ops.BRANCH:
            return self._state(*(self._sequence(branch, then) for branch in argument[1]))
        if op is ops.SUBPATTERN:
            _, added, removed, inner = argument
            if added or removed:
                raise ValueError("has flags within a group")
            return self._sequence(inner, then)
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            least, most, inner = argument
            return self._repeat(least, most, inner, then)
        if op is ops.AT:
            return self._position(argument, then)
        return self._state(test=(_test_of(op, argument), then))

    def _repeat(self, least: int, most: Any, inner: Any, then: int) -> int:
        if most is ops.MAXREPEAT:
            # A state that goes on, or once more through what repeats and back to it.
            entry = self._state(then)
            self._ways[entry].append(self._sequence(inner, entry))
        else:
            if most > _MOST_STATES:
                raise ValueError("repeats something too often")
            entry = then
            for _ in range(most - least):
                entry = self._state(then, self._sequence(inner, entry))
        if least > _MOST_STATES:
            raise ValueError("repeats something too often")
        for _ in range(least):
            entry = self._sequence(inner, entry)
        return entry

    def _position(self, where: Any, then: int) -> int:
        state = self._state(then)
        if where in _AT_START:
            self._at_start.add(state)
        elif where in _AT_END:
            self._at_end.add(state)
        else:
            raise ValueError("looks at the borders of words")
        return state


def _test_of(op: Any, argument: Any) -> _Test:
    if op is ops.LITERAL:
        return lambda char: ord(char) == argument
    if op is ops.NOT_LITERAL:
        return lambda char: ord(char) != argument
    if op is ops.ANY:
        return lambda char: char != "\n"
    if op is ops.IN:
        negated = argument[0][0] is ops.NEGATE
        tests = [_member(*item) for item in argument[negated:]]
        return lambda char: any(test(char) for test in tests) is not negated
    raise ValueError("looks around, or refers back, which can't be matched in bounded time")


def _member(op: Any, argument: Any) -> _Test:
    if op is ops.LITERAL:
        return lambda char: ord(char) == argument
    if op is ops.RANGE:
        low, high = argument
        return lambda char: low <= ord(char) <= high
    category = re.compile(_CATEGORIES[argument])
    return lambda char: category.match(char) is not None
