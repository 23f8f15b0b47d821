"""Connections that are cut in one direction or both, slowed down, and healed."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.nemesis.proxy import Network
from tests.support.waiting import wait_until


class Echo:
    """Answers each message with itself, and remembers what came."""

    def __init__(self) -> None:
        self.heard = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65_536):
                self.heard += data
                connection.sendall(data)

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.settimeout(10)
    return connection


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a moment."""
    connection.settimeout(0.3)
    try:
        return not connection.recv(100) and False
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)


def is_broken(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def test_one_direction_is_cut_and_what_was_held_back_comes_late(network: Network, echo: Echo) -> None:
    with connect(network.between("a-b", echo.address)) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        network.cut("a-b", "down")
        connection.sendall(b"two")
        wait_until(lambda: echo.heard == b"onetwo")
        assert silent(connection)
        network.heal("a-b")
        assert connection.recv(100) == b"two"
        network.cut("a-b", "up")
        connection.sendall(b"three")
        assert silent(connection)
        assert echo.heard == b"onetwo"
        network.heal()
        assert connection.recv(100) == b"three"


def test_a_new_connection_to_the_other_side_of_a_cut_hears_nothing(network: Network, echo: Echo) -> None:
    address = network.between("a-b", echo.address)
    network.cut("a-b", "both")
    with connect(address) as connection:
        connection.sendall(b"one")
        assert silent(connection)
        assert echo.heard == b""
        network.heal("a-b")
        assert connection.recv(100) == b"one"


def test_a_reset_breaks_what_is_open_and_only_that_link(network: Network, echo: Echo) -> None:
    cut, other = network.between("a-b", echo.address), network.between("a-c", echo.address)
    assert network.between("a-b", echo.address) == cut != other
    with connect(cut) as broken, connect(other) as whole:
        for connection in (broken, whole):
            connection.sendall(b"x")
            assert connection.recv(100) == b"x"
        network.cut("a-b", "both")
        network.heal("a-b", reset=True)
        assert is_broken(broken)
        whole.sendall(b"y")
        assert whole.recv(100) == b"y"
    with connect(cut) as again:
        again.sendall(b"z")
        assert again.recv(100) == b"z"
