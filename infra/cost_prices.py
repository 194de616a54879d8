"""The dated file of prices (``infra/prices.toml``), read once into a frozen value."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

from wire.errors import ConfigError

DEFAULT_FILE = Path(__file__).with_name("prices.toml")
STALE_DAYS = 90
EXAMPLE = "example; replace"
HOURS_PER_MONTH = 730.0
"""365 days, in twelve parts."""
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
_MAX_FILE_BYTES = 1 << 20

Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Speed = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class Dated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price, its day and where it is from."""

    as_of: date
    source: str


class MachinePrice(Dated, frozen=True, kw_only=True):
    """A machine. Billed by the hour, up to so much a month."""

    usd_per_hour: Amount
    usd_per_month_at_most: Amount | None = None
    egress_gb_included: Amount = 0.0
    """Each month, and pooled over all machines."""

    @property
    def usd_per_month(self) -> float:
        """All hours of a month."""
        whole = self.usd_per_hour * HOURS_PER_MONTH
        most = self.usd_per_month_at_most
        return whole if most is None else min(whole, most)


class GbMonthPrice(Dated, frozen=True, kw_only=True):
    """Bytes that lie somewhere: dollars per 10^9 of them and month."""

    usd_per_gb_month: Amount


class EgressPrice(Dated, frozen=True, kw_only=True):
    """Bytes that leave: dollars per 10^9 of them."""

    usd_per_gb: Amount


class MonthPrice(Dated, frozen=True, kw_only=True):
    """A thing that costs so much a month."""

    usd_per_month: Amount


class CloudPrice(Dated, frozen=True, kw_only=True):
    """A model in the cloud: dollars per million tokens."""

    prompt: Amount
    output: Amount


class SpeedFigure(Dated, frozen=True, kw_only=True):
    """Tokens per second of one machine, all conversations together."""

    prompt_per_s: Speed
    output_per_s: Speed


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is taken where the command line names none."""

    gpu: str
    cloud: str


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    defaults: Defaults
    machines: Mapping[str, MachinePrice]
    storage: GbMonthPrice
    egress: EgressPrice
    balancer: MonthPrice
    volume: GbMonthPrice
    cloud: Mapping[str, CloudPrice]
    speeds: Mapping[str, SpeedFigure]

    def machine(self, name: str) -> MachinePrice:
        """Raises ConfigError where the file has none of that name."""
        if name not in self.machines:
            raise _none("machine", name, self.machines)
        return self.machines[name]

    def cloud_model(self, name: str) -> CloudPrice:
        """Raises ConfigError where the file has none of that name."""
        if name not in self.cloud:
            raise _none("cloud model", name, self.cloud)
        return self.cloud[name]

    def entries(self) -> Iterator[tuple[str, Dated]]:
        """Every price with its name in the file."""
        for group in ("machines", "cloud", "speeds"):
            for name, price in getattr(self, group).items():
                yield f"{group}.{name}", price
        for name in ("storage", "egress", "balancer", "volume"):
            yield name, getattr(self, name)


def load_prices(file: Path | None = None) -> Prices:
    """The file of prices; ours where none is given.

    Raises:
        ConfigError: it cannot be read, or is not what it should be.
    """
    file = file or DEFAULT_FILE
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise ConfigError(f"{file} is larger than {_MAX_FILE_BYTES} bytes")
        return msgspec.convert(tomllib.loads(text.decode()), Prices)
    except OSError as error:
        raise ConfigError(f"cannot read prices from {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"prices in {file}: {error}") from error


def doubts(prices: Prices, used: set[str], today: date) -> list[str]:
    """What is to be said against the prices that were used: old ones, and examples."""
    said = []
    entries = [(name, price) for name, price in prices.entries() if name in used]
    examples = [name for name, price in entries if price.source.startswith(EXAMPLE)]
    if examples:
        said.append(f"examples, replace them in a copy of the price file: {', '.join(examples)}")
    for name, price in entries:
        age = (today - price.as_of).days
        if age > STALE_DAYS and name not in examples:
            said.append(f"{name} is of {price.as_of}, {age} days old: look it up again")
    return said


def _none(what: str, name: str, known: Mapping[str, object]) -> ConfigError:
    return ConfigError(f"no price of the {what} {name!r}; the file has: {', '.join(sorted(known))}")
