"""``headwater policy``: whether a policy file could be in force, before an edge reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import JsonOption
from infra.commands.output import command

if TYPE_CHECKING:
    from rich.console import Console

    from edge_tier.gateway.policy_file import PolicyFile

policy_app = typer.Typer(help="Policy files of the prompt plane.", no_args_is_help=True)


@policy_app.callback()
def policy() -> None:
    """Policy files of the prompt plane."""


@policy_app.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy file, in TOML.")],
    as_json: JsonOption = False,
) -> None:
    """Say whether a policy file is valid, and what is in it.

    Example:

      $ headwater policy check policies.toml
    """
    with command(as_json=as_json) as output:
        found = summary(read(file))
        output.result({"valid": True, **found}, lambda console: _show(console, found))


def read(file: Path) -> PolicyFile:
    """A policy file as an edge would read it. Raises ``ConfigError``."""
    from edge_tier.gateway.policy_book import load_policies

    return load_policies(file)


def summary(found: PolicyFile) -> dict[str, Any]:
    """Policies and tenants, without the words of content rules, which may be secret."""
    return {
        "policies": {
            name: {
                "privacy": policy.rules.privacy,
                "residency": policy.rules.residency,
                "personal_data": policy.rules.personal_data,
                "injection": policy.rules.injection,
                "shadow": policy.rules.shadow,
                "content": [rule.name for rule in policy.rules.content],
                "routes": [row.name for row in policy.rules.routes],
                "tenants": sorted(t for t, has in found.tenants.items() if has == name),
            }
            for name, policy in found.policies.items()
        }
    }


def _show(console: Console, found: dict[str, Any]) -> None:
    from infra.render import pairs

    for name, policy in found["policies"].items():
        console.print(name, style="bold", markup=False)
        shown = {
            "privacy": policy["privacy"],
            "personal data": policy["personal_data"],
            "injection": policy["injection"],
        }
        if policy["residency"]:
            shown["residency"] = policy["residency"]
        if policy["shadow"]:
            shown["shadow"] = "found and logged, not refused or changed"
        for what in ("content", "routes", "tenants"):
            if policy[what]:
                shown[what] = ", ".join(policy[what])
        console.print(pairs({f"  {title}": value for title, value in shown.items()}))
    console.print("valid", style="green")
