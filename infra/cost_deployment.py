"""What a deployment by ``infra/terraform`` costs by the month, from its variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.cost_prices import Prices
from wire.errors import ConfigError

_VARIABLES = Path(__file__).parent / "terraform" / "variables.tf"
_MAX_BYTES = 1 << 20
_MAX_NODES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line of the bill. ``price`` is the name in the file of prices."""

    what: str
    count: float
    usd_per_month: float
    price: str

    @property
    def total(self) -> float:
        """Dollars a month."""
        return self.count * self.usd_per_month


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All lines."""

    items: tuple[Item, ...]
    egress_gb_included: float

    @property
    def total(self) -> float:
        """Dollars a month."""
        return sum(item.total for item in self.items)

    @property
    def gpus(self) -> float:
        """What the GPU machines are of it."""
        return sum(item.total for item in self.items if item.what == "GPU workers")

    @property
    def base(self) -> float:
        """What is paid beside GPU machines."""
        return self.total - self.gpus


def bill(variables: Mapping[str, Any], prices: Prices, storage_gb: float) -> Bill:
    """The bill of a deployment.

    Args:
        variables: Terraform's, defaults included.
        storage_gb: what lies in the bucket.

    Raises:
        ConfigError: a price is missing, or a variable is not what it should be.
    """
    regions = variables.get("regions")
    if not isinstance(regions, Mapping):
        raise ConfigError("the deployment has no `regions`")
    edges = sum(_count(name, "edges", region) for name, region in regions.items())
    workers = sum(_count(name, "gpu_workers", region) for name, region in regions.items())
    types = [str(variables.get(name, "")) for name in ("origin_type", "edge_type", "gpu_type")]
    items = [
        Item(
            what=what,
            count=count,
            usd_per_month=prices.machine(kind).usd_per_month,
            price=f"machines.{kind}",
        )
        for what, kind, count in zip(
            ("origin", "edges", "GPU workers"), types, (1, edges, workers), strict=True
        )
    ]
    included = sum(
        item.count * prices.machine(kind).egress_gb_included
        for item, kind in zip(items, types, strict=True)
    )
    items.append(
        Item(
            what="object storage, GB",
            count=storage_gb,
            usd_per_month=prices.storage.usd_per_gb_month,
            price="storage",
        )
    )
    if variables.get("load_balancers"):
        each = prices.balancer.usd_per_month
        items.append(
            Item(what="NodeBalancers", count=len(regions), usd_per_month=each, price="balancer")
        )
    if volume := variables.get("cache_volume_gb"):
        each = prices.volume.usd_per_gb_month
        items.append(
            Item(what="volumes, GB", count=edges * volume, usd_per_month=each, price="volume")
        )
    return Bill(items=tuple(items), egress_gb_included=included)


def read_variables(file: Path) -> dict[str, Any]:
    """The variables of a ``.tfvars`` or ``.tfvars.json`` over the defaults of ``variables.tf``.

    Raises:
        ConfigError: it cannot be read, or python-hcl2 is not installed.
    """
    given = json.loads(_text(file)) if file.suffix == ".json" else _hcl(file)
    found: dict[str, Any] = {}
    for block in _hcl(_VARIABLES).get("variable", ()):
        found |= {name: body["default"] for name, body in block.items() if "default" in body}
    return found | given


def _count(region: str, name: str, counts: Any) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    if not isinstance(value, int) or not 0 <= value <= _MAX_NODES:
        raise ConfigError(f"region {region}: {name} is a number, not {value!r}")
    return value


def _hcl(file: Path) -> dict[str, Any]:
    try:
        import hcl2
    except ImportError:
        raise ConfigError(
            f"to read {file.name} python-hcl2 is needed: pip install python-hcl2"
        ) from None
    text = _text(file)
    try:
        found: dict[str, Any] = _plain(hcl2.loads(text))
    except Exception as error:
        raise ConfigError(f"{file} is no Terraform: {type(error).__name__}") from error
    return found


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file} is larger than {_MAX_BYTES} bytes")
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error


def _plain(value: Any) -> Any:
    """What python-hcl2 gives, without its own marks and the quotes of strings."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not str(key).startswith("__")}
        return {_plain(key): _plain(inner) for key, inner in kept.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
