"""``python -m tests.fakes.s3_process``: a real S3 server (moto's) as a process of its own, which
can be frozen: a bucket that answers nobody. Prints its URL and stays until its input ends."""

from __future__ import annotations

import os
import sys

sys.path[:] = [entry for entry in sys.path if not entry.endswith("absent")]  # moto needs boto3

from tests.fakes.s3 import CREDENTIALS, s3_server  # noqa: E402


def main() -> None:
    """Serve until standard input is closed."""
    os.environ.update(CREDENTIALS)
    with s3_server() as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
