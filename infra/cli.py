"""The ``headwater`` command. Only what ``--help`` needs is imported here; each command imports the
rest when it runs.
"""

from __future__ import annotations

import typer

from infra.commands import (
    artifacts,
    audit,
    chat,
    cost,
    demo,
    fit,
    fleet,
    keys,
    operate,
    policy,
    rolls,
    route,
    tiers,
    tokens,
    up,
    upkeep,
    warm,
    worker,
)
from infra.commands.options import JsonOption
from infra.commands.output import command

_HELP = "Carries model weights down to GPU machines and prompts up to them."
_EPILOG = "Exit status: 0 done, 1 failed, 2 usage or configuration, 130 interrupted."

_LOCAL, _DOWN, _UP, _TIERS, _OPERATE = (
    "On this machine",
    "Models on their way down",
    "Prompts on their way up",
    "One tier",
    "Operating",
)

app = typer.Typer(
    name="headwater",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    # A traceback with values could show a secret; ours have none, and errors are no tracebacks.
    pretty_exceptions_enable=False,
)
app.command(rich_help_panel=_LOCAL)(up.up)
app.command(rich_help_panel=_LOCAL)(demo.demo)
app.command(rich_help_panel=_DOWN)(artifacts.publish)
app.command(rich_help_panel=_DOWN)(rolls.roll)
app.command(rich_help_panel=_DOWN)(rolls.rollback)
app.command(rich_help_panel=_DOWN)(rolls.rolls)
app.command(rich_help_panel=_DOWN)(artifacts.purge)
app.command(rich_help_panel=_DOWN)(artifacts.pull)
app.command(rich_help_panel=_DOWN)(fit.fit)
app.command(rich_help_panel=_DOWN)(warm.warm)
app.command(rich_help_panel=_UP)(chat.chat)
app.add_typer(route.route_app, name="route", rich_help_panel=_UP)
app.add_typer(tiers.origin_app, name="origin", rich_help_panel=_TIERS)
app.command(rich_help_panel=_TIERS)(tiers.edge)
app.add_typer(worker.worker_app, name="worker", rich_help_panel=_TIERS)
app.command(rich_help_panel=_OPERATE)(operate.status)
app.add_typer(fleet.fleet_app, name="fleet", rich_help_panel=_OPERATE)
app.command(rich_help_panel=_OPERATE)(upkeep.gc)
app.command(rich_help_panel=_OPERATE)(upkeep.pin)
app.command(rich_help_panel=_OPERATE)(upkeep.verify)
app.command(rich_help_panel=_OPERATE)(upkeep.diff)
app.add_typer(keys.keys_app, name="keys", rich_help_panel=_OPERATE)
app.command(rich_help_panel=_OPERATE)(audit.audit)
app.command(rich_help_panel=_OPERATE)(cost.cost)
app.add_typer(policy.policy_app, name="policy", rich_help_panel=_OPERATE)
app.add_typer(tokens.tokens_app, name="tokens", rich_help_panel=_OPERATE)
app.add_typer(operate.config_app, name="config", rich_help_panel=_OPERATE)


@app.command(rich_help_panel=_OPERATE)
def version(as_json: JsonOption = False) -> None:
    """Show the version of this installation.

    Example:

      $ headwater version --json
    """
    import platform
    from importlib import metadata

    with command(as_json=as_json) as output:
        try:
            own = metadata.version("headwater")
        except metadata.PackageNotFoundError:
            own = "not installed"
        found = {"headwater": own, "python": platform.python_version()}
        output.result(found, lambda console: console.print(f"headwater {own}", markup=False))


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
