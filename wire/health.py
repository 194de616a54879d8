"""``python -m wire.health URL``: whether a tier on this machine answers 200, for an image's health
check. Nothing is imported but the standard library: it runs every few seconds, forever."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 2.5
_MAX_BODY = 300


def problem(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """What is wrong with the tier at ``url`` (``http://host:port/readyz``); empty where it is well.
    No proxy is asked, whatever the environment says."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            return f"{url!r} is not http://host:port/path"
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
        try:
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            body = answer.read(_MAX_BODY).decode("utf-8", "replace")
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{url}: {error or type(error).__name__}"
    return "" if answer.status == 200 else f"{url}: {answer.status} {body}"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 where it is well, 1 where it is not, 2 where no URL was given."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m wire.health URL", file=sys.stderr)  # noqa: T201 - a command
        return 2
    found = problem(arguments[0])
    if found:
        print(found, file=sys.stderr)  # noqa: T201 - Docker keeps it with the check
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
