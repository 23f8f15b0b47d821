"""What the driver raises, as callers of the store see it."""

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from easyq_chassis.errors import EasyQError, FailedPrecondition, Internal, Unavailable
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_writes import insert_results

SAID = "mongodb://user:s3cr3t-pass@host"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ServerSelectionTimeoutError(SAID), Unavailable),
        (AutoReconnect(SAID), Unavailable),
        (NetworkTimeout(SAID), Unavailable),
        (NotPrimaryError(SAID), Unavailable),
        (WaitQueueTimeoutError(SAID), Unavailable),
        (WriteConcernError(SAID, 64), Unavailable),
        (WTimeoutError(SAID, 64), Unavailable),
        (ExecutionTimeout(SAID, 50), Unavailable),
        (ConfigurationError(SAID), Unavailable),
        (InvalidOperation(SAID), Unavailable),
        (OperationFailure(SAID, 18), FailedPrecondition),
        (OperationFailure(SAID, 13), FailedPrecondition),
        (OperationFailure(SAID, 59, {"codeName": "CommandNotFound"}), Internal),
        (InvalidDocument(SAID), Internal),
        (PyMongoError(SAID), Internal),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_each_error_of_the_driver_is_one_of_ours(raised: Exception, expected: type[EasyQError]) -> None:
    with pytest.raises(EasyQError) as caught, translated():
        raise raised
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised
    assert SAID not in caught.value.message


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(FailedPrecondition, match="as it is"), translated():
        raise FailedPrecondition("as it is")


def bulk(*failed: tuple[int, int], unconfirmed: bool = False) -> BulkWriteError:
    """What an insert of several documents ends with: (index, code) of those that failed."""
    return BulkWriteError(
        {
            "writeErrors": [{"index": index, "code": code, "errmsg": SAID} for index, code in failed],
            "writeConcernErrors": [{"code": 64}] if unconfirmed else [],
        }
    )


def test_each_document_of_an_insert_has_its_own_result() -> None:
    assert insert_results(bulk((1, 11000)), 3) == [True, False, True]
    good, refused = insert_results(bulk((1, 121)), 2)
    assert good is True
    assert isinstance(refused, Internal)
    assert SAID not in refused.message


def test_what_was_inserted_but_not_confirmed_is_unknown() -> None:
    unknown, taken = insert_results(bulk((1, 11000), unconfirmed=True), 2)
    assert isinstance(unknown, Unavailable)
    assert taken is False
