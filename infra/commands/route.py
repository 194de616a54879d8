"""``headwater route``: where a prompt would go, and why."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ApiKeyOption,
    ConfigOption,
    JsonOption,
    place,
)
from infra.commands.output import command
from wire.errors import ConfigError, RequestInvalidError

if TYPE_CHECKING:
    from rich.console import Console

    from infra.ask import Answer
    from infra.route_explain import Explained

route_app = typer.Typer(help="Where prompts go, and why.", no_args_is_help=True)

_IMAGINED, _EDGE = "What is imagined without an edge", "Asking an edge"


class SideName(StrEnum):
    """Where an answer may come from."""

    LOCAL = "local"
    CLOUD = "cloud"


@route_app.callback()
def route() -> None:
    """Where prompts go, and why."""


@route_app.command("explain")
def explain_route(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What would be asked.")],
    model: Annotated[str, typer.Option("--model", help="A model, or auto to be routed.")] = "auto",
    hint: Annotated[
        list[str] | None,
        typer.Option(
            "--hint", metavar="NAME=VALUE", help="As in x-headwater-NAME; may be repeated."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Policy file, instead of the configuration's.",
            rich_help_panel=_IMAGINED,
        ),
    ] = None,
    policy_name: Annotated[
        str,
        typer.Option(
            "--policy-name",
            metavar="NAME",
            help="The policy that the key names.",
            rich_help_panel=_IMAGINED,
        ),
    ] = "",
    tenant: Annotated[
        str, typer.Option("--tenant", help="Whose key it is.", rich_help_panel=_IMAGINED)
    ] = "",
    tokens: Annotated[
        int,
        typer.Option(min=0, help="Of the prompt; 0: from its length.", rich_help_panel=_IMAGINED),
    ] = 0,
    wait_s: Annotated[
        float,
        typer.Option(min=0.0, help="Wait for a worker, in seconds.", rich_help_panel=_IMAGINED),
    ] = 0.0,
    load: Annotated[
        float,
        typer.Option(min=0.0, help="Requests per slot of the workers.", rich_help_panel=_IMAGINED),
    ] = 0.0,
    budget_used: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Part of the token budget, 0 to 1.", rich_help_panel=_IMAGINED
        ),
    ] = 0.0,
    without: Annotated[
        SideName | None,
        typer.Option(help="A side that is not ready.", rich_help_panel=_IMAGINED),
    ] = None,
    config: ConfigOption = None,
    edge: Annotated[
        str | None,
        typer.Option(
            "--edge",
            metavar="URL",
            help="Ask a running edge for one token instead.",
            rich_help_panel=_EDGE,
        ),
    ] = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a prompt goes and all that decides it; nothing is sent unless --edge is given.

    Example:

      $ headwater route explain "Prove that 17 is prime."
      $ headwater route explain "Hello" --hint latency=batch --policy policies.toml
      $ headwater route explain "Hello" --edge http://127.0.0.1:7401
    """
    with command(as_json=as_json) as output:
        headers = _headers(hint or [])
        if edge is not None:
            if policy is not None or policy_name or tenant:
                raise ConfigError("an edge has policies of its own; leave --policy or --edge away")
            access = place(DEFAULT_STATE_DIR, edge=edge, api_key=api_key).edge_client()
            answer = _asked(access.url, access.secret, prompt, model, headers)
            output.result(_told(answer), lambda console: _show_told(console, answer))
            return
        from infra.route_explain import Asked, show

        found = _explained(
            Asked(
                text=prompt,
                model=model,
                tenant=tenant,
                policy=policy_name,
                hints=_hints(headers),
                tokens=tokens,
                wait_s=wait_s,
                load=load,
                budget_used=budget_used,
            ),
            policy,
            config,
            without,
        )
        output.result(found.as_dict(), lambda console: show(found, console))


def _headers(hints: list[str]) -> dict[str, str]:
    from edge_tier.gateway.hints import NAMES, PREFIX

    headers = {}
    for one in hints:
        name, equals, value = one.partition("=")
        if not equals or name not in NAMES:
            raise ConfigError(f"--hint is NAME=VALUE with a name of {', '.join(NAMES)}")
        headers[f"{PREFIX}{name}"] = value
    return headers


def _hints(headers: dict[str, str]) -> Any:
    from edge_tier.gateway.hints import parse_hints

    try:
        return parse_hints(headers)
    except RequestInvalidError as error:
        raise ConfigError(error.message) from error


def _explained(
    asked: Any, policy: Path | None, config: Path | None, without: SideName | None
) -> Explained:
    from dataclasses import replace

    from edge_tier.gateway.pipeline import with_threshold
    from edge_tier.gateway.policy_file import PolicyFile
    from edge_tier.prompts import traits_of
    from infra.commands.policy import read
    from infra.config_view import load_config
    from infra.route_explain import Assumed, explain

    gateway = load_config("edge", config).gateway
    file = policy or gateway.policy_file
    return explain(
        replace(asked, max_tokens=gateway.pipeline.default_max_tokens),
        read(file) if file is not None else PolicyFile(),
        Assumed(
            config=with_threshold(gateway.pipeline.route),
            local_ready=without is not SideName.LOCAL,
            cloud_ready=without is not SideName.CLOUD,
            cloud_models=gateway.cloud.models,
            cloud=traits_of(gateway.cloud),
        ),
    )


def _asked(url: str, key: str, prompt: str, model: str, headers: dict[str, str]) -> Answer:
    import asyncio

    from infra.ask import Asker

    async def ask() -> Answer:
        messages = [{"role": "user", "content": prompt}]
        async with Asker(url, key) as asker:
            return await asker.ask(messages, model=model, headers=headers, max_tokens=1)

    return asyncio.run(ask())


def _told(answer: Answer) -> dict[str, Any]:
    return {"route": answer.route, "plan": answer.plan, "stages_ms": answer.stages_ms}


def _show_told(console: Console, answer: Answer) -> None:
    from infra.render import duration, pairs

    stages = "\n".join(f"{name} {duration(ms)}" for name, ms in answer.stages_ms.items())
    reasons = answer.plan.replace("; ", "\n")
    console.print(pairs({"went to": answer.route, "because": reasons, "stages": stages}))
