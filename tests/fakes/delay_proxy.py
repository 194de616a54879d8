"""A link with a round trip: ``python -m tests.fakes.delay_proxy PORT HOST:PORT SECONDS``.

What a client sends arrives so much later, each burst in its own time, so that requests under way at
once wait together. Answers pass at once and untouched, from socket to socket in the kernel, so the
link is no narrower than loopback. In a process of its own: it must not share the tier's time.
"""

from __future__ import annotations

import fcntl
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIPE_BYTES = 1 << 20
_BURST = 64 * 1024
_F_SETPIPE_SZ = 1031


def serve(listener: socket.socket, target: tuple[str, int], delay_s: float) -> None:
    """Accept until the listener is closed."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_link, args=(client, target, delay_s), daemon=True).start()


@contextmanager
def delay_proxy(target: str, delay_s: float) -> Iterator[str]:
    """A link to ``host:port`` on threads of this process; gives its own ``host:port``."""
    host, _, port = target.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener, (host, int(port)), delay_s))
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _link(client: socket.socket, target: tuple[str, int], delay_s: float) -> None:
    """One connection: bytes of the client wait, those of the server do not."""
    time.sleep(delay_s)  # the handshake
    try:
        server = socket.create_connection(target)
    except OSError:
        client.close()
        return
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bursts: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    for work in (_read, _deliver):
        arguments = (client if work is _read else server, bursts, delay_s)
        threading.Thread(target=work, args=arguments, daemon=True).start()
    with suppress(OSError):
        _splice(server, client)
    for end in (client, server):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _read(client: socket.socket, bursts: queue.SimpleQueue[tuple[float, bytes]], _: float) -> None:
    data = b"x"
    while data:
        try:
            data = client.recv(_BURST)
        except OSError:
            data = b""
        bursts.put((time.monotonic(), data))


def _deliver(
    server: socket.socket, bursts: queue.SimpleQueue[tuple[float, bytes]], delay_s: float
) -> None:
    while True:
        sent_s, data = bursts.get()
        time.sleep(max(0.0, sent_s + delay_s - time.monotonic()))
        try:
            if not data:
                server.shutdown(socket.SHUT_WR)
                return
            server.sendall(data)
        except OSError:
            return


def _splice(source: socket.socket, target: socket.socket) -> None:
    """All bytes from one socket to the other, without touching them."""
    out, into = os.pipe()
    try:
        with suppress(OSError):
            fcntl.fcntl(into, _F_SETPIPE_SZ, _PIPE_BYTES)
        while count := os.splice(source.fileno(), into, _PIPE_BYTES):
            while count:
                count -= os.splice(out, target.fileno(), count)
    finally:
        os.close(out)
        os.close(into)


def main(port: str, target: str, delay_s: str) -> None:
    """Serve until killed."""
    host, _, to = target.rpartition(":")
    listener = socket.create_server(("127.0.0.1", int(port)))
    serve(listener, (host, int(to)), float(delay_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
