"""What ``headwater cost`` found, for people and as JSON. It fits 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.cost import (
    Swing,
    Terms,
    Volume,
    Way,
    break_even_day,
    hybrid,
    in_cloud,
    local,
    parity,
    swings,
)
from infra.cost_deployment import Bill

if TYPE_CHECKING:
    from rich.console import Console

_BAR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A volume and its ways."""

    volume: Volume
    terms: Terms
    share: float
    cloud_name: str
    gpu_name: str
    bill: Bill | None
    notes: tuple[str, ...] = ()
    """What is to be said against the figures."""

    @property
    def cloud(self) -> Way:
        """Everything in the cloud."""
        return in_cloud(self.volume, self.terms)

    @property
    def ways(self) -> tuple[Way, ...]:
        """Local, hybrid where a share was given, cloud."""
        found = [local(self.volume, self.terms)]
        if 0 < self.share < 1:
            found.append(hybrid(self.volume, self.terms, self.share))
        return (*found, self.cloud)

    @property
    def swings(self) -> list[Swing]:
        """What the saving hangs on."""
        return swings(self.volume, self.terms, self.share)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        volume = self.volume
        return {
            "volume_per_month": {
                "prompt_tokens": volume.prompt_tokens,
                "output_tokens": volume.output_tokens,
                "egress_gb": volume.egress_gb,
            },
            "cloud": self.cloud_name,
            "gpu": self.gpu_name,
            "share_local": self.share,
            "ways": [
                {
                    "name": way.name,
                    "machines": way.machines,
                    "upfront_usd": way.upfront,
                    "per_month_usd": way.per_month,
                    "break_even_day": None if way is cloud else break_even_day(way, cloud),
                }
                for cloud in (self.cloud,)
                for way in (*self.ways[:-1], cloud)
            ],
            "parity_volume": parity(volume, self.terms),
            "swings": [
                {"name": swing.name, "low_usd": swing.low, "high_usd": swing.high}
                for swing in self.swings
            ],
            "base_per_month_usd": self.terms.base_per_month,
            "bill": None if self.bill is None else bill_dict(self.bill),
            "notes": list(self.notes),
        }

    def show(self, console: Console) -> None:
        """For people."""
        from infra.render import table

        volume, terms = self.volume, self.terms
        console.print(
            f"{tokens(volume.prompt_tokens)} prompt and {tokens(volume.output_tokens)} output "
            f"tokens a month; {self.cloud_name} or {self.gpu_name}",
            markup=False,
        )
        million = (volume.prompt_tokens + volume.output_tokens) / 1e6
        cloud = self.cloud
        rows = []
        for way in self.ways:
            each = f"${way.per_month / million:,.2f}" if million > 0 else "-"
            rows.append(
                (
                    way.name if way.name != "hybrid" else f"hybrid, {self.share:.0%} local",
                    way.machines or "-",
                    usd(way.upfront) if way.upfront else "-",
                    usd(way.per_month),
                    each,
                    "-" if way.name == "cloud" else _day(break_even_day(way, cloud)),
                )
            )
        console.print(
            table(
                ("", "GPU machines", "first", "a month", "per 1M", "break-even"),
                rows,
                right="GPU machines,first,a month,per 1M,break-even",
            )
        )
        console.print(self._in_words(terms), markup=False, style="dim")
        self._show_swings(console)
        for note in self.notes:
            console.print(f"note: {note}", markup=False, style="yellow")

    def _in_words(self, terms: Terms) -> str:
        factor = parity(self.volume, terms)
        if factor is None:
            even = "No volume makes local as cheap as the cloud."
        else:
            even = f"Local costs as much as the cloud at {factor:.2g} times this volume."
        return (
            f"{even} A machine: {terms.prompt_per_s:g} prompt and {terms.output_per_s:g} output "
            f"tokens/s, busy {terms.utilisation:.0%}, {terms.spare} to spare; the rest of the "
            f"deployment {usd(terms.base_per_month)} a month."
        )

    def _show_swings(self, console: Console) -> None:
        from infra.render import table

        found = self.swings
        widest = max((abs(swing.high - swing.low) for swing in found), default=0.0) or 1.0
        rows = [
            (
                swing.name,
                usd(swing.low),
                usd(swing.high),
                "█" * round(abs(swing.high - swing.low) / widest * _BAR),
            )
            for swing in found
        ]
        console.print(table(("saved a month, if", "25% less", "25% more", ""), rows,
                            right="25% less,25% more"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BillView:
    """A deployment's bill."""

    bill: Bill
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return bill_dict(self.bill) | {"notes": list(self.notes)}

    def show(self, console: Console) -> None:
        """For people."""
        from infra.render import table

        rows = [
            (
                item.what,
                f"{item.count:g}",
                usd(item.usd_per_month, 2),
                usd(item.total, 2),
                item.price,
            )
            for item in self.bill.items
        ]
        rows.append(("total", "", "", usd(self.bill.total, 2), ""))
        columns = ("a month", "count", "each", "all", "price")
        console.print(table(columns, rows, right="count,each,all"))
        for note in self.notes:
            console.print(f"note: {note}", markup=False, style="yellow")


def bill_dict(bill: Bill) -> dict[str, Any]:
    """For ``--json``."""
    items = [
        {
            "what": item.what,
            "count": item.count,
            "each_usd": item.usd_per_month,
            "usd": item.total,
            "price": item.price,
        }
        for item in bill.items
    ]
    return {"items": items, "total_usd": bill.total}


def usd(amount: float, digits: int = 0) -> str:
    """``$1,234``, ``-$12.50``."""
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def tokens(count: float) -> str:
    """``2B``, ``300M``."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def _day(day: float | None) -> str:
    if day is None:
        return "never"
    return "at once" if day == 0 else f"day {day:,.0f}"
