"""Who holds a port, as the kernel tells it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from easyq.cli.listeners import Listener, listener_at
from tests.support.waiting import free_port, wait_until

_LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[2]))):
    print(flush=True)
    sys.stdin.read()
"""


def test_a_port_and_a_socket_of_this_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "s"))
        local.listen()
        for address in (f"127.0.0.1:{server.getsockname()[1]}", f"unix:{tmp_path}/s", f"unix://{tmp_path}/s"):
            found = listener_at(address)
            assert found is not None
            assert (found.pid, found.stopped, found.argv[0]) == (os.getpid(), False, sys.orig_argv[0])


@pytest.mark.parametrize("address", ["unix:/nowhere", "127.0.0.1:name", "127.0.0.1:{}"])
def test_where_nobody_listens(address: str) -> None:
    address = address.format(free_port())
    assert listener_at(address) is None


def test_one_that_is_stopped_is_seen_though_it_answers_nobody() -> None:
    port = free_port()
    # Called as a service of EasyQ is.
    command = [sys.executable, "-c", _LISTEN, "easyq_gateway", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)

        def stopped() -> Listener | None:
            found = listener_at(f"127.0.0.1:{port}")
            return found if found is not None and found.stopped else None

        wait_until(lambda: stopped() is not None, 10)
        found = stopped()
        assert found is not None
        assert (found.pid, found.is_easyq) == (process.pid, True)
        assert f"process {process.pid} (" in found.words
        process.send_signal(signal.SIGCONT)


def test_of_other_users_only_the_user_is_known(tmp_path: Path) -> None:
    """Their sockets can be seen, and not whose they are."""
    (tmp_path / "net").mkdir()
    line = "0: 0100007F:2711 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100 0 0 10 0"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address\n{line}\n", encoding="ascii")
    found = listener_at("127.0.0.1:10001", tmp_path)
    assert found == Listener(pid=0, user="root")
    assert not found.is_easyq
