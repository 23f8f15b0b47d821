import grpc
import pytest

from easyq_chassis.errors import Code, EasyQError, FieldProblem, InvalidArgument, ResourceExhausted
from easyq_chassis.status import from_status, to_status


@pytest.mark.parametrize("cls", EasyQError.__subclasses__())
def test_errors_survive_the_wire(cls: type[EasyQError]) -> None:
    back = from_status(to_status(cls("what happened")))
    assert type(back) is cls
    assert (back.message, back.reason, back.fields, back.retry_after) == ("what happened", cls.default_reason, (), None)


def test_fields_and_retry_survive_the_wire() -> None:
    field = FieldProblem(field='spec.envs["A"]', message="is empty")
    assert from_status(to_status(InvalidArgument("no", reason="MALFORMED_BODY", fields=[field]))).fields == (field,)
    assert from_status(to_status(ResourceExhausted("later", retry_after=1.5))).retry_after == 1.5


def test_details_stay_below_what_metadata_carries() -> None:
    fields = [FieldProblem(field="f" * 5_000, message="m" * 5_000)] * 300
    status = to_status(InvalidArgument("x" * 50_000, fields=fields))
    assert status.ByteSize() < 10_000
    assert len(from_status(status).fields) == 16


def test_unknown_codes_are_internal() -> None:
    status = to_status(InvalidArgument("odd"))
    status.code = grpc.StatusCode.DATA_LOSS.value[0]
    assert from_status(status).code is Code.INTERNAL
