"""``make fuzz-api``: the same for minutes; prints what was asked and what did not fit."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import structlog

from edge_tier.gateway.auth import KeyStore
from infra.reference.openapi.documents import edge_api, origin_api
from tests.fakes.api_fuzz import Fuzzed, fuzz
from tests.fakes.api_tiers import TOKENS, running_tiers


def main() -> None:
    """Ask both tiers; exits with 1 where an answer does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="requests of each operation")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name, running_tiers(Path(name)) as tiers:
        keys = KeyStore.open(Path(name) / "keys.json", Path(name) / "pepper")
        _, key = keys.create(tenant="fuzzed")
        tokens = TOKENS | {"pullToken": "admin", "apiKey": key}
        asked = {"examples": given.examples, "seed": given.seed}
        edge = fuzz(edge_api(), tiers.edge_url, tokens, **asked)
        origin = fuzz(origin_api(), tiers.origin_url, tokens, **asked)
    for tier, found in (("edge", edge), ("origin", origin)):
        _show(tier, found)
    if edge.problems or origin.problems:
        sys.exit(1)


def _show(tier: str, found: Fuzzed) -> None:
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
    print(f"{tier}: {found.cases} requests of {len(found.operations)} operations; {statuses}")
    for problem in dict.fromkeys(found.problems):
        print(f"  {problem}")


if __name__ == "__main__":
    main()
