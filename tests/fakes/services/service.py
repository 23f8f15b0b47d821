"""A service that does nothing but say what happens to it, and be a healthy gateway if it is the gateway.

What else it does stands in FAKE_<KIND>: `crash` (status 3 at once), `refuse` (status 2), `drained` (status 0 at once),
`deaf` (ignores TERM), `flood` (long lines, and bytes that are no text).

A runner makes its data folder, and the gateway takes those folders for the agents that live. Only the gateway imports
gRPC: a life that is to be short would else take longer than what the supervisor takes for a start that went well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

_STATUSES = {"crash": 3, "refuse": 2, "drained": 0}


def main(kind: str) -> None:
    behaviour = os.environ.get(f"FAKE_{kind.upper()}", "")
    prefix = f"EASYQ_{kind.upper()}_"
    settings = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    stop = threading.Event()
    # Before it says that it has started: who reads that may stop it at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if behaviour == "deaf" else stop.set())
    if kind == "runner":
        Path(settings["DATA"]).mkdir(parents=True, exist_ok=True)
    print(f"started {os.getpid()} {json.dumps(settings)}", flush=True)
    if behaviour in _STATUSES:
        print(f"told to {behaviour}", file=sys.stderr, flush=True)
        sys.exit(_STATUSES[behaviour])
    if behaviour == "flood":
        sys.stdout.buffer.write(b"x" * 200_000 + b"\n\xff\xfe no text\n")
        sys.stdout.flush()
    server = _gateway(settings["GRPC_LISTEN"], Path(settings["RULES"]).parent / "agents") if kind == "gateway" else None
    while not stop.wait(0.05):
        pass
    if server is not None:
        server.stop(0).wait()
    print(f"stopped {time.monotonic_ns()}", flush=True)
    if behaviour == "flood":
        print("no newline at the end", end="", flush=True)


def _gateway(listen: str, agents: Path) -> grpc.Server:
    """Serves its health, and the agents that have a folder below `agents`."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    from easyq.v1.farm_service_pb2 import Agent, ListAgentsRequest, ListAgentsResponse
    from easyq.v1.farm_service_pb2_grpc import FarmServiceServicer, add_FarmServiceServicer_to_server

    class Farm(FarmServiceServicer):
        def ListAgents(self, _request: ListAgentsRequest, _context: grpc.ServicerContext) -> ListAgentsResponse:
            names = [path.name for path in agents.glob("*")]
            return ListAgentsResponse(items=[Agent(agent_id=name, state=Agent.LIVE) for name in names])

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    farm = Farm()  # type: ignore[abstract] # the others stay UNIMPLEMENTED
    add_FarmServiceServicer_to_server(farm, server)
    server.add_insecure_port(listen)
    server.start()
    return server
