"""Operations ports, as the status has them."""

from easyq.v1.farm_service_pb2 import Agent
from easyq_gateway.ports import Health
from easyq_gateway.usecases.operations import operations_ports
from easyq_internal.dispatcher.v1.dispatcher_pb2 import GetMatchingResponse

OWN = Health(kind="gateway", address="g", healthy=True, answers=True, operations="127.0.0.1:1")
AWAY = Health(kind="store", address="s", healthy=False, answers=False, message="no answer")


def test_a_process_that_does_not_answer_has_none_that_is_known() -> None:
    own, store = operations_ports(OWN, [AWAY], [], [])
    assert (own.service, own.address, own.alive, own.ready, own.why) == ("gateway", "127.0.0.1:1", True, True, "")
    assert (store.instance, store.address, store.alive, store.ready, store.why) == ("s", "", False, False, "no answer")


def test_agents_have_theirs_from_whichever_dispatcher_holds_them() -> None:
    agents = [
        Agent(agent_id="well", state=Agent.LIVE, healthy=True, message="of before"),
        Agent(agent_id="ill", state=Agent.LIVE, message="no engine"),
        Agent(agent_id="silent", state=Agent.DEAD),
        Agent(agent_id="gone", state=Agent.DEAD),
    ]
    views = [GetMatchingResponse(operations={"ill": "h:2"}), GetMatchingResponse(operations={"silent": "h:3"})]
    found = list(operations_ports(OWN, [], agents, views))[1:]
    assert [(one.instance, one.address, one.alive, one.ready, one.why) for one in found] == [
        ("well", "", True, True, ""),
        ("ill", "h:2", True, False, "no engine"),
        ("silent", "h:3", False, False, "it is silent"),
    ]
