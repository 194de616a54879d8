"""A program for tests of the launcher: behaves like a tier's process, but for what it is told.

Run as a script with ``--port N``; ``FAKE_READY_FILE`` and ``FAKE_MODE`` come from the environment.
Modes: ``ok``; ``dies`` before it listens; ``mute`` never says that it listens; ``unready`` answers
503; ``stubborn`` ignores SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = os.environ["FAKE_MODE"] != "unready"
        body = b'{"status": "ready"}' if ready else b'{"detail": "no model yet"}'
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


def watch_lifeline() -> None:
    descriptor = int(os.environ["HEADWATER_LIFELINE"])
    while os.read(descriptor, 1):
        pass
    os._exit(0)


def main() -> int:
    mode = os.environ["FAKE_MODE"]
    print(f"started in mode {mode}", file=sys.stderr, flush=True)
    if mode == "dies":
        print("no such model", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else lambda *_: os._exit(0))
    threading.Thread(target=watch_lifeline, daemon=True).start()
    if mode == "mute":
        signal.pause()
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    ready = Path(os.environ["FAKE_READY_FILE"])
    url = f"http://127.0.0.1:{server.server_address[1]}"
    beside = ready.with_suffix(".new")
    beside.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    beside.replace(ready)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
