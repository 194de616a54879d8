"""How well structured personal data is found: precision, recall and F1 of every type.

Texts with labelled spans, a JSON object a line (``text``, ``spans`` of ``type``, ``start`` and
``end``), are read from ``HEADWATER_PERSONAL_DATA``, by default ``../shared/data/pii_dev.jsonl``
beside the checkout; without them there is nothing to measure, and that is said. The rules may be
fitted on the even rows; figures are those of the odd ones. A find counts where its type is right
and its span overlaps the labelled one; how many spans are exact is a figure of its own. Names,
places and dates are not looked for, and their rows say so.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from edge_tier.gateway.personal_data import find
from tests.benchmarks.results import Machine, Row, report

DEFAULT = Path("../shared/data/pii_dev.jsonl")
TARGET_F1 = 0.95
LABELS = {
    "credit_card": "CREDIT_CARD",
    "email": "EMAIL_ADDRESS",
    "iban": "IBAN_CODE",
    "ip_address": "IP_ADDRESS",
    "phone": "PHONE_NUMBER",
    "us_driver_license": "US_DRIVER_LICENSE",
    "us_ssn": "US_SSN",
}
"""What the labels call our kinds. A find of another kind counts as a false one."""


class Labelled(NamedTuple):
    """A text and its spans: label, start, end."""

    text: str
    spans: frozenset[tuple[str, int, int]]


class Counts:
    """Hits and misses by type."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.exact: Counter[str] = Counter()
        self.false: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()

    def add(self, labelled: Labelled) -> None:
        open_spans = set(labelled.spans)
        for kind, start, end in find(labelled.text).matches:
            name = LABELS.get(kind, kind)
            hit = next(
                (s for s in sorted(open_spans) if s[0] == name and s[1] < end and start < s[2]),
                None,
            )
            if hit is None:
                self.false[name] += 1
                continue
            open_spans.remove(hit)
            self.right[name] += 1
            self.exact[name] += hit == (name, start, end)
        self.missed.update(name for name, _, _ in open_spans)

    @property
    def types(self) -> list[str]:
        return sorted({*self.right, *self.false, *self.missed})

    def scores(self, types: Iterable[str]) -> tuple[float, float, float]:
        """Precision, recall and F1 over some types together."""
        types = list(types)
        right, false, missed = (
            sum(counter[name] for name in types)
            for counter in (self.right, self.false, self.missed)
        )
        precision = right / (right + false) if right + false else 0.0
        recall = right / (right + missed) if right + missed else 0.0
        return precision, recall, 2 * right / (2 * right + false + missed) if right else 0.0


def read(path: Path) -> list[Labelled]:
    """All rows of the file."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            spans = frozenset((s["type"], s["start"], s["end"]) for s in row["spans"])
            rows.append(Labelled(row["text"], spans))
    return rows


def counted(rows: Iterable[Labelled]) -> Counts:
    counts = Counts()
    for row in rows:
        counts.add(row)
    return counts


def figures(counts: Counts) -> list[Row]:
    """Precision, recall and F1 of every type, and of the structured ones together."""
    structured = sorted({*LABELS.values(), *counts.false})
    groups = {"structured, together": structured, **{name: [name] for name in counts.types}}
    rows = []
    for name, types in groups.items():
        ours = name not in counts.types or name in structured
        values = zip(("precision", "recall", "F1"), counts.scores(types), strict=True)
        for measure, value in values:
            target = TARGET_F1 if measure == "F1" and ours else None
            seen = "" if ours else " (not looked for)"
            rows.append(Row(name=f"{name}: {measure}{seen}", unit="", runs=[value], target=target))
    right, exact = sum(counts.right.values()), sum(counts.exact.values())
    rows.append(Row(name="exact spans among the right ones", unit="", runs=[exact / max(1, right)]))
    return rows


def main(*, quick: bool) -> None:
    """Print and write the figures of the odd rows. ``quick`` changes nothing: it takes a second."""
    path = Path(os.environ.get("HEADWATER_PERSONAL_DATA", DEFAULT))
    if not path.is_file():
        print(f"personal_data: {path} is missing; set HEADWATER_PERSONAL_DATA to labelled texts")
        return
    machine = Machine()
    rows = read(path)
    print(f"{path}: {len(rows)} texts; the figures are those of the odd rows")
    report("personal_data", figures(counted(rows[1::2])), machine)
