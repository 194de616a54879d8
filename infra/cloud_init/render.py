"""User data from a template and its values. Pure, but for reading the templates.

The templates are Terraform's: ``${name}`` is a value, ``$${`` is ``${`` itself. Terraform's own
``templatefile`` and this give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wire.errors import ConfigError

FOLDER = Path(__file__).parent
TIERS = ("origin", "edge", "worker")
MAX_USER_DATA_BYTES = 16_384
"""What Linode's metadata service takes, decoded (linode/cluster-api-provider-linode,
``maxBootstrapDataBytes``)."""
_VALUE = re.compile(r"\$\$\{|\$\{([a-z_][a-z0-9_]*)\}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f'\\]")
"""In a value: what would end a quoted string of the shell, TOML or YAML, or begin a line."""
_MAX_VALUE_CHARS = 4_096
_LISTS = frozenset({"ssh_keys", "edge_urls"})
OPTIONAL: Mapping[str, str] = {
    "enrolment_url": "",
    "cache_device": "",
    "variant": "",
    "engine_index": "",
    "engine_sha256": "",
}
"""What may be left out, and is then this."""


def template(tier: str) -> str:
    """The template of a tier.

    Raises:
        ConfigError: there is no such tier.
    """
    if tier not in TIERS:
        raise ConfigError(f"no tier {tier!r}; there are: {', '.join(TIERS)}")
    return (FOLDER / f"{tier}.yaml").read_text()


def names(text: str) -> set[str]:
    """The names of the values that a template wants."""
    return {match[1] for match in _VALUE.finditer(text) if match[1]}


def render(text: str, values: Mapping[str, str]) -> str:
    """A template with its values.

    Raises:
        ConfigError: a value is missing, is of no use, or may not stand there; or all is too long.
    """
    wanted = names(text)
    given = {name: value for name, value in OPTIONAL.items() if name in wanted} | dict(values)
    if missing := sorted(wanted - given.keys()):
        raise ConfigError(f"missing: {', '.join(missing)}; give each with --set NAME=VALUE")
    if unknown := sorted(given.keys() - wanted):
        raise ConfigError(f"not in this template: {', '.join(unknown)}; it has {sorted(wanted)}")
    for name, value in given.items():
        _check(name, value)
    made = _VALUE.sub(lambda match: given[match[1]] if match[1] else "${", text)
    if (size := len(made.encode())) > MAX_USER_DATA_BYTES:
        raise ConfigError(f"{size} bytes of user data; Linode takes {MAX_USER_DATA_BYTES}")
    return made


def _check(name: str, value: str) -> None:
    """Raises ConfigError where a value would be more than a value."""
    if len(value) > _MAX_VALUE_CHARS:
        raise ConfigError(f"{name} has {len(value)} characters; at most {_MAX_VALUE_CHARS}")
    if _UNFIT.search(value) or (name not in _LISTS and '"' in value):
        raise ConfigError(f"{name}: no quotes, backslashes, line ends or control characters")
