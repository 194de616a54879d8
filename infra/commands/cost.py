"""``headwater cost``: answering on machines of one's own, in the cloud, or both; and what a
deployment by Terraform costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import JsonOption
from infra.commands.output import command

_VOLUME, _MACHINES, _PRICES = "What is asked", "Machines", "Prices"


def cost(
    prompt_tokens: Annotated[
        str,
        typer.Option(metavar="N", help="Such as 2B or 300M.", rich_help_panel=_VOLUME),
    ] = "",
    output_tokens: Annotated[
        str, typer.Option(metavar="N", help="Tokens of answers.", rich_help_panel=_VOLUME)
    ] = "",
    requests: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Requests; then the two above are tokens of one.",
            rich_help_panel=_VOLUME,
        ),
    ] = "",
    per: Annotated[
        str,
        typer.Option(metavar="PERIOD", help="day, week, month, year.", rich_help_panel=_VOLUME),
    ] = "month",
    from_metrics: Annotated[
        str,
        typer.Option(
            metavar="URL", help="An edge's metered tokens, with --days.", rich_help_panel=_VOLUME
        ),
    ] = "",
    prometheus: Annotated[
        str,
        typer.Option(
            metavar="URL", help="All edges' metered tokens, of --days.", rich_help_panel=_VOLUME
        ),
    ] = "",
    days: Annotated[
        float,
        typer.Option(min=0, help="Days that were metered.", rich_help_panel=_VOLUME),
    ] = 0,
    egress_gb: Annotated[
        float, typer.Option(min=0, help="GB that leave by the month.", rich_help_panel=_VOLUME)
    ] = 0,
    share: Annotated[
        float | None,
        typer.Option(
            "--share-local",
            min=0,
            max=1,
            help="Of the tokens, for hybrid; what was metered if not given.",
            rich_help_panel=_VOLUME,
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option(metavar="TYPE", help="GPU machine.", rich_help_panel=_MACHINES)
    ] = "",
    prompt_speed: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Prompt tokens/s of one machine, as you measured.",
            rich_help_panel=_MACHINES,
        ),
    ] = None,
    output_speed: Annotated[
        float | None,
        typer.Option(metavar="N", help="Output tokens/s of it.", rich_help_panel=_MACHINES),
    ] = None,
    utilisation: Annotated[
        float,
        typer.Option(help="How much of a day they may be busy.", rich_help_panel=_MACHINES),
    ] = 0.5,
    spare: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Machines beyond that.", rich_help_panel=_MACHINES),
    ] = 1,
    deployment: Annotated[
        Path | None,
        typer.Option(
            metavar="TFVARS",
            help="Variables of infra/terraform: its bill, and the rest beside GPUs.",
            rich_help_panel=_MACHINES,
        ),
    ] = None,
    storage_gb: Annotated[
        float, typer.Option(min=0, help="GB in its bucket.", rich_help_panel=_MACHINES)
    ] = 100,
    cloud: Annotated[
        str, typer.Option(metavar="MODEL", help="Model in the cloud.", rich_help_panel=_PRICES)
    ] = "",
    invest: Annotated[
        float, typer.Option(min=0, help="Dollars on the first day.", rich_help_panel=_PRICES)
    ] = 0,
    commit_days: Annotated[
        float,
        typer.Option(min=0, help="Days for which GPUs are owed.", rich_help_panel=_PRICES),
    ] = 0,
    prices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Yours, instead of infra/prices.toml.", rich_help_panel=_PRICES
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw what is paid by each day.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what prompts cost on machines of your own and in the cloud, and until when.

    Example:

      $ headwater cost --prompt-tokens 2B --output-tokens 300M --invest 5000
      $ headwater cost --prometheus http://prometheus:9090 --days 30
      $ headwater cost --deployment infra/terraform/terraform.tfvars
    """
    with command(as_json=as_json) as output:
        import time
        from datetime import UTC, datetime

        from infra.cost_svg import cost_svg, horizon_days
        from infra.cost_view import Comparison
        from infra.costing import Asked, Question, answer
        from wire.errors import ConfigError

        question = Question(
            asked=Asked(
                prompt=prompt_tokens,
                output=output_tokens,
                requests=requests,
                per=per,
                page=from_metrics,
                prometheus=prometheus,
                days=days,
                egress_gb=egress_gb,
            ),
            share=share,
            gpu=gpu,
            cloud=cloud,
            prompt_speed=prompt_speed,
            output_speed=output_speed,
            utilisation=utilisation,
            spare=spare,
            investment=invest,
            commitment_days=commit_days,
            deployment=deployment,
            storage_gb=storage_gb,
            prices=prices,
        )
        found = answer(question, datetime.now(UTC).date(), time.time())
        if plot is not None:
            if not isinstance(found, Comparison):
                raise ConfigError("--plot compares ways: say what is asked, too")
            ways = found.ways
            _write(plot, cost_svg(ways, ways[-1], horizon_days(ways, ways[-1])))
        output.result(found.as_dict(), found.show)


def _write(file: Path, text: str) -> None:
    from wire.errors import ConfigError

    if file.suffix != ".svg":
        raise ConfigError(f"--plot {file}: an SVG is drawn, so a name that ends in .svg")
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
