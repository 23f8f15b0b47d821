"""What of the output a request wants: `tail`, `since`, `timestamps`, `from`, and in which form."""

from __future__ import annotations

import re
from collections.abc import Mapping

from easyq.v1 import log_service_pb2
from easyq_gateway.codec.json_text import JsonNumber
from easyq_gateway.codec.wellknown import fill_duration, fill_timestamp
from easyq_gateway.convert import refusal
from easyq_gateway.domain.log_positions import Position, parse_position
from easyq_gateway.domain.problems import Problems
from easyq_gateway.usecases.following import position_message

#: Which part of what is stored. Any of them makes it a part, without a length that is known before.
PART = ("tail", "since", "timestamps")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-")
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def fill_part(query: Mapping[str, str], request: log_service_pb2.FollowLogsRequest) -> None:
    """Puts `tail`, `since` and `timestamps` into a request. Raises `InvalidArgument` naming each that is wrong."""
    problems = Problems()
    _fill_tail(query.get("tail", "all"), request, problems)
    if "since" in query:
        _fill_since(query["since"], request, problems)
    request.timestamps = _flag(query, "timestamps", problems)
    if problems:
        raise refusal(problems)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Returns whether `name` is set: 1 or true. Raises `InvalidArgument` for what is neither that nor 0 nor false."""
    problems = Problems()
    found = _flag(query, name, problems)
    if problems:
        raise refusal(problems)
    return found


def position_of(word: str, where: str) -> Position:
    """Reads a position out of the parameter or header `where`. Raises `InvalidArgument`."""
    try:
        return parse_position(word)
    except ValueError as error:
        problems = Problems()
        problems.add(where, str(error))
        raise refusal(problems) from None


def fill_position(position: Position, request: log_service_pb2.FollowLogsRequest) -> None:
    """Lets a request go on at a position."""
    request.position.CopyFrom(position_message(position))


def _flag(query: Mapping[str, str], name: str, problems: Problems) -> bool:
    found = _FLAGS.get(query.get(name, "0").lower())
    if found is None:
        problems.add(name, "must be 1 or 0")
    return bool(found)


def _fill_tail(text: str, request: log_service_pb2.FollowLogsRequest, problems: Problems) -> None:
    if text == "all":
        return
    if text.isascii() and text.isdigit() and len(text) <= 9:
        request.tail = int(text)
    else:
        problems.add("tail", "must be a number of lines, or all")


def _fill_since(text: str, request: log_service_pb2.FollowLogsRequest, problems: Problems) -> None:
    # A plus in a query stands for a space; in the offset of a time it was meant.
    time = text.replace(" ", "+")
    if _NUMBER.fullmatch(time):
        fill_timestamp(JsonNumber(time), request.since, "since", problems)
    elif _DATE.match(time):
        fill_timestamp(time, request.since, "since", problems)
    else:
        _fill_ago(text, request, problems)


def _fill_ago(text: str, request: log_service_pb2.FollowLogsRequest, problems: Problems) -> None:
    wrong = Problems()
    request.since_ago.SetInParent()
    fill_duration(text, request.since_ago, "since", wrong)
    if any(problem.message == "is too long" for problem in wrong):
        problems.add("since", "is too long")
    elif wrong:
        problems.add("since", "must be a duration back from now like 10m, unix seconds, or a time in RFC 3339")
