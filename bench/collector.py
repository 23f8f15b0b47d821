"""`python -m bench.collector`: takes whatever is sent by OTLP, and keeps nothing. Says its port; ends with stdin."""

import sys
from concurrent import futures
from typing import Any

import grpc


class _Anything(grpc.GenericRpcHandler):
    """Every call is answered with an empty message, and none is parsed: its processor time is nobody's here."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ARG002 - all are one
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_Anything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
