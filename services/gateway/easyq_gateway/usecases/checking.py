"""Is a request sound? Every check of a request, in one place, for both protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from easyq.v1 import spec_pb2
from easyq_chassis.clock import Clock
from easyq_gateway import convert
from easyq_gateway.codec.rules import SchemaRules
from easyq_gateway.codec.wellformed import check_message
from easyq_gateway.domain.defaults import Defaults
from easyq_gateway.domain.problems import Problem, Problems, member_path, merge
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.spec import check_spec

_SPEC = spec_pb2.JobSpec.DESCRIPTOR


class Checker:
    """Checks requests and resolves defaults."""

    def __init__(self, *, clock: Clock, redactor: Redactor, defaults: Defaults) -> None:
        self._clock = clock
        self._redactor = redactor
        self._defaults = defaults
        self._said = convert.spec_of(defaults)
        self._rules = SchemaRules()

    def require(self, request: Message, found: Sequence[Problem] = ()) -> None:
        """Raises `InvalidArgument` with everything that is wrong; `found` is what is known to be."""
        problems = self.problems(request, found)
        if problems:
            raise convert.refusal(problems)

    def problems(self, request: Message, found: Sequence[Problem] = (), path: str = "") -> list[Problem]:
        """Returns everything that is wrong, `found` first; `path` is where the request stands in a larger one."""
        unsound = Problems()
        check_message(request, path, unsound)
        broken = Problems()
        self._rules.check(request, path, broken)
        semantic = self._check_spec(request, path)
        if not (found or unsound or broken or semantic):
            return []
        return merge(found, unsound, broken, semantic)

    def resolve(self, spec: spec_pb2.JobSpec) -> None:
        """Sets every default of a checked spec, in place."""
        convert.resolve(spec, self._said, self._defaults)

    def _check_spec(self, request: Any, path: str) -> list[Problem]:
        field = request.DESCRIPTOR.fields_by_name.get("spec")
        if field is None or field.message_type is not _SPEC or not request.HasField("spec"):
            return []
        where = member_path(path, "spec")
        facts = convert.facts_of(request.spec, self._defaults)
        relative = check_spec(
            facts,
            now_ms=self._clock.now_ms(),
            redactor=self._redactor,
            default_min_ms=self._defaults.backoff_min_ms,
        )
        return [
            Problem(path=member_path(where, one.path) if one.path else where, message=one.message, reason=one.reason)
            for one in relative
        ]
