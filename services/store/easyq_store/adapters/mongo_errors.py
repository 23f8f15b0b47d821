"""The driver's errors as ours; the only place that knows them. Nothing of the URL but hosts gets into a message."""

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from easyq_chassis.errors import FailedPrecondition, Internal, Unavailable

# Codes of the server that say: these credentials won't do, now or later.
_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18

_RETRY_AFTER = 1.0


@contextmanager
def translated() -> Iterator[None]:
    """Raises our errors instead of the driver's, with the cause kept.

    Where a write's answer did not come, `Unavailable` means that its result isn't known.
    """
    try:
        yield
    except ServerSelectionTimeoutError as error:
        raise Unavailable("MongoDB can't be reached", retry_after=_RETRY_AFTER) from error
    except ConnectionFailure as error:
        raise Unavailable(
            "the connection to MongoDB broke; whether the call took effect isn't known", retry_after=_RETRY_AFTER
        ) from error
    except (WriteConcernError, ExecutionTimeout) as error:
        raise Unavailable(
            "MongoDB did not confirm in time that the write is durable", retry_after=_RETRY_AFTER
        ) from error
    except ConfigurationError as error:
        # Found out late: the names of a mongodb+srv URL can't be looked up, or the server is too old.
        raise Unavailable("MongoDB can't be used as its URL says", retry_after=_RETRY_AFTER) from error
    except OperationFailure as error:
        raise _refused(error) from error
    except InvalidOperation as error:
        raise Unavailable("the connection to MongoDB is closed") from error
    except (PyMongoError, BSONError) as error:
        raise Internal(f"MongoDB's driver refused a command: {type(error).__name__}") from error


def _refused(error: OperationFailure) -> FailedPrecondition | Internal:
    if error.code in {_UNAUTHORIZED, _AUTHENTICATION_FAILED}:
        return FailedPrecondition("MongoDB refuses the user of the URL")
    name = (error.details or {}).get("codeName", "unknown")
    return Internal(f"MongoDB refused a command: code {error.code} ({name})")
