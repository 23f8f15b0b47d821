"""What callers of a micro-batch are told where its stream breaks."""

from typing import Any

import grpc
import grpc.aio
import pytest

from easyq_chassis.batching import MicroBatcher
from easyq_chassis.errors import EasyQError, Internal, Unavailable
from easyq_chassis.status import to_grpc


class Broken:
    """A stream whose first write fails."""

    def __init__(self, trailing: Any) -> None:
        self._trailing = trailing

    async def write(self, _request: object) -> None:
        metadata = grpc.aio.Metadata(*self._trailing)
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), metadata, details="from Core")

    def cancel(self) -> None:
        pass


async def told(trailing: Any) -> EasyQError:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda: Broken(trailing), lambda **fields: fields)
    with pytest.raises(EasyQError) as error:
        await batcher.call(1)
    await batcher.close()
    return error.value


async def test_a_write_on_a_stream_that_just_broke_may_be_repeated() -> None:
    assert isinstance(await told(()), Unavailable)


async def test_a_fault_of_the_servers_is_told_as_one() -> None:
    assert isinstance(await told(to_grpc(Internal("a fault")).trailing_metadata), Internal)
