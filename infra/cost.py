"""What answering prompts costs: on machines of one's own, in the cloud, or both. Pure arithmetic.

Machines are bought in wholes and paid for whether they are busy or not; tokens in the cloud are
paid for one by one. So a volume needs ``ceil(busy seconds / (seconds of a day × utilisation))``
machines, and some to spare; there is a volume at which one way becomes cheaper than the other, and,
where something was invested first, a day on which that is earned back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from infra.cost_prices import DAYS_PER_MONTH
from wire.errors import ConfigError

_DAY_S = 86_400.0
_MAX_MACHINES = 1_000_000
_PARITY_TRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is asked in a month."""

    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    egress_gb: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens", "egress_gb"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1e18):
                raise ConfigError(f"{name}: 0 to 1e18 a month, not {value}")

    def times(self, factor: float) -> Volume:
        """So many times as much."""
        return Volume(
            prompt_tokens=self.prompt_tokens * factor,
            output_tokens=self.output_tokens * factor,
            egress_gb=self.egress_gb * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Prices, speeds and intentions, in dollars."""

    gpu_per_month: float
    """One machine's, all hours."""
    prompt_per_s: float
    output_per_s: float
    """Tokens of one machine, all conversations together."""
    cloud_prompt: float
    cloud_output: float
    """Per million tokens."""
    utilisation: float = 0.5
    """Of a day's seconds, how much machines may be busy; people do not ask evenly."""
    spare: int = 1
    """Machines beyond that, so that one may fail."""
    base_per_month: float = 0.0
    """What a deployment costs beside its GPUs: origin, edges, storage."""
    egress_per_gb: float = 0.0
    egress_gb_included: float = 0.0
    investment: float = 0.0
    """Paid on the first day."""
    commitment_days: float = 0.0
    """GPU machines are owed for so long, whatever happens."""

    def __post_init__(self) -> None:
        if not (self.prompt_per_s > 0 and self.output_per_s > 0):
            raise ConfigError("speeds are tokens per second, and more than 0")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(f"utilisation is a share from 0 to 1, not {self.utilisation}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to answer, as dollars over days: owed at the start, and then by the day."""

    name: str
    machines: int
    upfront: float
    per_day: float
    """Until the commitment ends."""
    per_day_after: float
    commitment_days: float = 0.0

    @property
    def per_month(self) -> float:
        """Once a commitment has ended."""
        return self.per_day_after * DAYS_PER_MONTH

    def total(self, day: float) -> float:
        """Dollars owed by then. What was committed to is owed at the start."""
        early = min(day, self.commitment_days)
        return self.upfront + self.per_day * early + self.per_day_after * (day - early)


def machines_for(volume: Volume, terms: Terms) -> int:
    """How many GPU machines; none for nothing.

    Raises:
        ConfigError: more than a million.
    """
    busy = busy_s_per_day(volume, terms)
    if busy <= 0:
        return 0
    wanted = busy / (_DAY_S * terms.utilisation)
    if wanted > _MAX_MACHINES:
        raise ConfigError(f"{wanted:.0f} machines would be needed; are the speeds right?")
    # A hair under a whole number is that number.
    return max(1, math.ceil(wanted - 1e-9)) + terms.spare


def busy_s_per_day(volume: Volume, terms: Terms) -> float:
    """Seconds of one machine that a day's tokens take."""
    seconds = volume.prompt_tokens / terms.prompt_per_s + volume.output_tokens / terms.output_per_s
    return seconds / DAYS_PER_MONTH


def cloud_per_month(volume: Volume, terms: Terms) -> float:
    """Dollars for these tokens in the cloud."""
    prompt, output = volume.prompt_tokens, volume.output_tokens
    return (prompt * terms.cloud_prompt + output * terms.cloud_output) / 1e6


def in_cloud(volume: Volume, terms: Terms) -> Way:
    """Everything in the cloud, and nothing of one's own."""
    per_day = cloud_per_month(volume, terms) / DAYS_PER_MONTH
    return Way(name="cloud", machines=0, upfront=0.0, per_day=per_day, per_day_after=per_day)


def hybrid(volume: Volume, terms: Terms, share: float, name: str = "hybrid") -> Way:
    """So large a share of the tokens on machines of one's own, the rest in the cloud.

    Raises:
        ConfigError: a share that is none.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"a share is from 0 to 1, not {share}")
    machines = machines_for(volume.times(share), terms)
    gpus = machines * terms.gpu_per_month / DAYS_PER_MONTH
    egress = max(0.0, volume.egress_gb - terms.egress_gb_included) * terms.egress_per_gb
    other = (
        terms.base_per_month + egress + cloud_per_month(volume.times(1 - share), terms)
    ) / DAYS_PER_MONTH
    return Way(
        name=name,
        machines=machines,
        upfront=terms.investment + gpus * terms.commitment_days,
        per_day=other,
        per_day_after=other + gpus,
        commitment_days=terms.commitment_days,
    )


def local(volume: Volume, terms: Terms) -> Way:
    """Everything on machines of one's own."""
    return hybrid(volume, terms, 1.0, "local")


def break_even_day(way: Way, other: Way) -> float | None:
    """The first day from which ``way`` has not cost more than ``other``, which owes nothing at its
    start; None: never."""
    gap = way.upfront - other.upfront
    if gap <= 0 and way.per_day <= other.per_day and way.per_day_after <= other.per_day_after:
        return 0.0
    saved = other.per_day - way.per_day
    if saved > 0 and gap / saved <= way.commitment_days:
        return max(0.0, gap / saved)
    gap -= saved * way.commitment_days
    saved = other.per_day_after - way.per_day_after
    if saved <= 0:
        return None
    return way.commitment_days + max(0.0, gap) / saved


def parity(volume: Volume, terms: Terms, share: float = 1.0) -> float | None:
    """How many times this volume has to be asked until machines of one's own, with this share, cost
    as much by the month as the cloud alone. None: at no volume, or there is nothing to multiply."""
    cloud = cloud_per_month(volume.times(share), terms)
    busy = busy_s_per_day(volume.times(share), terms)
    if cloud <= 0 or busy <= 0:
        return None
    # How many times the volume one busy machine answers.
    capacity = _DAY_S * terms.utilisation / busy
    for count in range(1, _PARITY_TRIES):
        factor = ((count + terms.spare) * terms.gpu_per_month + terms.base_per_month) / cloud
        if factor <= count * capacity:
            return max(factor, (count - 1) * capacity)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """What is saved by the month where one assumption is lower and higher."""

    name: str
    low: float
    high: float


def swings(volume: Volume, terms: Terms, share: float, by: float = 0.25) -> list[Swing]:
    """Each assumption lower and higher by a part of it, the others as they are: what of them the
    monthly saving against the cloud hangs on most, first."""
    changes: Sequence[tuple[str, Callable[[float], tuple[Volume, Terms]]]] = (
        ("volume", lambda f: (volume.times(f), terms)),
        ("price of GPU machines", lambda f: (volume, _scaled(terms, f, "gpu_per_month"))),
        (
            "price of the cloud",
            lambda f: (volume, _scaled(terms, f, "cloud_prompt", "cloud_output")),
        ),
        (
            "tokens per second",
            lambda f: (volume, _scaled(terms, f, "prompt_per_s", "output_per_s")),
        ),
        (
            "utilisation",
            lambda f: (volume, replace(terms, utilisation=min(1.0, terms.utilisation * f))),
        ),
        ("edges, origin, storage", lambda f: (volume, _scaled(terms, f, "base_per_month"))),
    )
    found = [
        Swing(name=name, low=_saved(*change(1 - by), share), high=_saved(*change(1 + by), share))
        for name, change in changes
    ]
    return sorted(found, key=lambda swing: -abs(swing.high - swing.low))


def _scaled(terms: Terms, factor: float, *names: str) -> Terms:
    return replace(terms, **{name: getattr(terms, name) * factor for name in names})


def _saved(volume: Volume, terms: Terms, share: float) -> float:
    return in_cloud(volume, terms).per_month - hybrid(volume, terms, share).per_month
