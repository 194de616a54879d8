"""``python -m tests.benchmarks NAMES [--quick]``; all of them by default."""

from __future__ import annotations

import argparse
from importlib import import_module

BENCHMARKS = (
    "gateway",
    "streams",
    "quality",
    "personal_data",
    "classifiers",
    "artifacts",
    "assets",
    "cold_start",
    "rolls",
    "nodes",
    "chaos",
    "canary",
    "console",
    "chunk_store",
    "eviction",
    "remote_write",
    "traces",
    "cdn",
    "reports",
    "scale",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Headwater's figures")
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar=" ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="one short run each")
    given = parser.parse_args()
    for name in given.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
        import_module(f"tests.benchmarks.{name}").main(quick=given.quick)


if __name__ == "__main__":
    main()
