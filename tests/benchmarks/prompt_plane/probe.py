"""Asks for ``/healthz`` every 2 ms on one connection, and says how long the slowest answer took.

``URL`` is its argument; it runs until its standard input ends. Two processes on one machine wait
for each other's turns on a core, so its own lateness in waking up is told apart.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from urllib.parse import urlsplit

PAUSE_S = 0.002


def main(url: str) -> None:
    where = urlsplit(url)
    request = f"GET /healthz HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
    waits: list[float] = []
    late = 0.0
    with socket.create_connection((where.hostname or "", where.port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not select.select([sys.stdin], [], [], 0)[0]:
            started = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(65_536)
            waits.append(time.perf_counter() - started)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the probe got {answer[:100]!r}")
            slept = time.perf_counter()
            time.sleep(PAUSE_S)
            late = max(late, time.perf_counter() - slept - PAUSE_S)
    waits.sort()
    print(
        json.dumps(
            {
                "max_ms": waits[-1] * 1e3,
                "p99_ms": waits[int(len(waits) * 0.99)] * 1e3,
                "late_ms": late * 1e3,
                "count": len(waits),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
