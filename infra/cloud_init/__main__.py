"""``python -m infra.cloud_init TIER --set NAME=VALUE ...``: user data for who does without
Terraform. Lists are JSON; ``--set NAME=@FILE`` takes a value from a file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.cloud_init.render import TIERS, names, render, template
from wire.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the user data; exit status 2 where values are missing or wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.cloud_init", description=__doc__)
    parser.add_argument("tier", choices=TIERS)
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], dest="values")
    parser.add_argument("--names", action="store_true", help="print what the template wants")
    options = parser.parse_args(arguments)
    text = template(options.tier)
    try:
        if options.names:
            print("\n".join(sorted(names(text))))
        else:
            sys.stdout.write(render(text, dict(map(_pair, options.values))))
    except ConfigError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 2
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: NAME=VALUE is wanted")
    if value.startswith("@"):
        try:
            value = Path(value[1:]).read_text().strip()
        except OSError as error:
            raise ConfigError(f"--set {name}: cannot read {value[1:]}: {error.strerror}") from error
    return name, value


if __name__ == "__main__":
    raise SystemExit(main())
