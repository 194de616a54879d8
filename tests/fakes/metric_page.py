"""``make docs-metrics``: start a small system, ask it a question, and draw its metrics' page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from infra.reference.pages import FOLDER
from tests.fakes.fleet import Fleet
from tests.fakes.metric_names import ask, draw, scrape
from tests.fakes.rare_metrics import labels

PAGE = FOLDER / "metrics.md"
NOBODY = "http://127.0.0.1:9/api/v1/write"
TIERS = ("ORIGIN", "EDGE", "WORKER")


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as name:
        settings = {}
        for tier in TIERS:
            prefix = f"HEADWATER_{tier}__TELEMETRY__"
            settings[f"{prefix}REMOTE_WRITE_URL"] = NOBODY
            settings[f"{prefix}SPOOL_DIR"] = str(Path(name) / tier)
        fleet = Fleet(Path(name) / "state", settings)
        fleet.start()
        try:
            ask(fleet, "auto")
            found = scrape(fleet)
            PAGE.write_text(draw(found, labels(found)))
        finally:
            fleet.stop()


if __name__ == "__main__":
    main()
