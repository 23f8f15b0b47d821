"""Is a request sound? Every check of a request, in one place, for both protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from easyq.v1 import spec_pb2
from easyq_chassis.clock import Clock
from easyq_gateway import convert, convert_secrets
from easyq_gateway.codec.rules import SchemaRules
from easyq_gateway.codec.wellformed import check_message
from easyq_gateway.domain.images import is_image
from easyq_gateway.domain.problems import Problem, Problems, member_path, merge
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.spec import check_spec
from easyq_gateway.usecases.defaults import TaskDefaults

_SPEC = spec_pb2.JobSpec.DESCRIPTOR


class Checker:
    """Checks requests and resolves defaults. What only the scheduler knows of a schedule is left to `Schedules`."""

    def __init__(self, *, clock: Clock, redactor: Redactor, defaults: TaskDefaults) -> None:
        self._clock = clock
        self._redactor = redactor
        self._rules = SchemaRules()
        self.defaults = defaults

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
        semantic = self._check_spec(request, path, found)
        if not (found or unsound or broken or semantic):
            return []
        return merge(found, unsound, broken, semantic)

    def fits_schema(self, request: Any, found: Sequence[Problem] = ()) -> bool:
        """Whether nothing speaks against a request but what may change: the clock, the settings."""
        unsound = Problems()
        check_message(request, "", unsound)
        self._rules.check(request, "", unsound)
        return not found and not unsound and is_image(request.spec.image)

    def resolve(self, task_id: str, spec: spec_pb2.JobSpec) -> None:
        """Sets every default of a checked spec of that task, in place."""
        self.defaults.resolve(task_id, spec)

    def _check_spec(self, request: Any, path: str, found: Sequence[Problem]) -> list[Problem]:
        field = request.DESCRIPTOR.fields_by_name.get("spec")
        if field is None or field.message_type is not _SPEC or not request.HasField("spec"):
            return []
        where = member_path(path, "spec")
        defaults = self.defaults.of(request.task_id)
        # A cron that could not be read was given all the same: what goes with it is not to be refused for its want.
        recurs = True if found and any(problem.path == f"{where}.cron" for problem in found) else None
        facts = convert.facts_of(request.spec, defaults, recurs=recurs)
        relative = [
            *check_spec(
                facts, now_ms=self._clock.now_ms(), redactor=self._redactor, default_min_ms=defaults.backoff_min_ms
            ),
            *convert_secrets.problems(request.spec, self._redactor),
        ]
        return [
            Problem(path=member_path(where, one.path) if one.path else where, message=one.message, reason=one.reason)
            for one in relative
        ]
