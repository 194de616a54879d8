"""``make fuzz-api``: minutes of schemathesis over a whole system that is thrown away afterwards.

Prompts first, answered by a real worker; then the edge's other paths; then the origin's, which may
take down what the others need. The last line says how many requests there were; the exit status is
1 where anything was found.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from infra.local_config import LOCAL_MODEL
from infra.reference.openapi.documents import edge_api, origin_api
from infra.state import read_secret
from tests.fakes.api_fuzz import ENDLESS, Found, fuzz
from tests.fakes.fleet import Fleet

_MINUTES = 6.0
_EXAMPLES = 100_000
"""More than there is time for."""


def main(minutes: float = _MINUTES) -> int:
    """Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as folder:
        fleet = Fleet(Path(folder), {})
        try:
            fleet.start()
            return _fuzz(fleet, minutes * 60 / 3)
        finally:
            fleet.stop()


def _fuzz(fleet: Fleet, share_s: float) -> int:
    unlimited = {"requests_per_minute": 0, "tokens_per_minute": 0}
    key = fleet.create_key(limits=unlimited, scopes=["chat", "embeddings"])["key"]
    admin = {"adminToken": fleet.local.admin_token, "apiKey": key}
    edge_tokens = {**admin, "workerToken": read_secret(fleet.state.worker_token)}
    origin_tokens = {**admin, "edgeToken": read_secret(fleet.state.edge_report_token)}
    revision = fleet.revision()
    known = {"model": LOCAL_MODEL, "channel": "stable", "revision": revision}
    runs = (
        ("prompts", edge_api(), fleet.urls.edge, {"apiKey": key}, "^/v1/", ENDLESS, ()),
        # Workers that only a heartbeat made answer nothing: 503 is what is left to say then.
        ("edge", edge_api(), fleet.urls.edge, edge_tokens, "", f"{ENDLESS}|^/v1/", ("503",)),
        ("origin", origin_api(), fleet.urls.origin, origin_tokens, "", ENDLESS, ()),
    )
    total, problems = 0, 0
    for name, api, url, tokens, only, without, honest in runs:
        began = time.monotonic()
        found = fuzz(
            api,
            url,
            tokens,
            known=known,
            only=only,
            without=without,
            examples=_EXAMPLES,
            coverage=True,
            honest=honest,
            max_time_s=int(share_s),
            seed=time.time_ns() % 2**32,
        )
        _tell(name, found, time.monotonic() - began)
        total, problems = total + found.requests, problems + len(found.problems)
    print(f"{total} requests, {problems} problems")
    return 1 if problems else 0


def _tell(name: str, found: Found, seconds: float) -> None:
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(found.answers.items()))
    print(f"{name}: {found.requests} requests in {seconds:.0f} s ({answers})", flush=True)
    for problem, again in sorted(found.problems.items()):
        print(f"  {problem}\n    " + again.replace("\n", "\n    "), flush=True)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2])))
