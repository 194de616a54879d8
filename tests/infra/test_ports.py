from __future__ import annotations

import socket
from contextlib import closing

import pytest

from infra.errors import ChildError
from infra.ports import HeldPort


def listening(port: int) -> socket.socket:
    """As a tier listens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


def test_whoever_knows_a_held_port_may_listen_there_again_and_again() -> None:
    with closing(HeldPort()) as held:
        for _ in range(2):
            with (
                listening(held.number) as server,
                socket.create_connection(("127.0.0.1", held.number)),
            ):
                server.accept()[0].close()


def test_nobody_listens_at_a_held_port_by_itself() -> None:
    with closing(HeldPort()) as held, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", held.number))


def test_two_held_ports_are_two() -> None:
    with closing(HeldPort()) as one, closing(HeldPort()) as other:
        assert one.number != other.number


def test_a_host_that_is_not_here_is_said() -> None:
    with pytest.raises(ChildError, match=r"no free port on 192\.0\.2\.1"):
        HeldPort("192.0.2.1")
