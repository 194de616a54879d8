"""``headwater fit``: whether a model fits a machine, and what boot would choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ConfigOption,
    JsonOption,
    PullTokenFileOption,
    StateDirOption,
    place,
    pull_token,
)
from infra.commands.output import FAILED, command

_GIB = 1 << 30


def fit(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|FILE.gguf", help="A published model[@channel], or a file."),
    ],
    hardware: Annotated[
        str,
        typer.Option(
            "--hardware",
            metavar="NAME",
            help="rtx4090, m4-max, l4, a100-80, h100, cpu-server ...; else this machine.",
        ),
    ] = "",
    context: Annotated[
        int | None, typer.Option("--context", metavar="N", min=1, help="Tokens for each slot.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", min=1, help="Answers at the same time.")
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", metavar="NAME", help="This one only, as if configured.")
    ] = "",
    kv_type: Annotated[
        str,
        typer.Option("--kv-type", metavar="TYPE", help="What keys and values are kept as."),
    ] = "f16",
    ram: Annotated[
        float,
        typer.Option("--ram", metavar="GIB", min=0, help="Main memory beside --hardware's GPU."),
    ] = 0,
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL[,URL...]", help="Edges or origins; the local ones if not given."
        ),
    ] = "",
    trust_root: Annotated[
        Path | None,
        typer.Option(
            "--trust-root",
            metavar="FILE",
            help="The publisher's root.json; the state directory's if none is given.",
        ),
    ] = None,
    token_file: PullTokenFileOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how each variant of a model fits a machine, and which one a worker would take there.

    Of a published model only the headers are fetched, not the weights.

    Example:

      $ headwater fit chat-small
      $ headwater fit llama-70b-Q4_K_M.gguf --hardware rtx4090 --context 8192
    """
    import asyncio

    with command(as_json=as_json) as output:
        from gpu_worker.judge import ask_of
        from infra.config_view import load_config
        from infra.fitting import fit_file, fit_model, is_gguf_path, place_for
        from wire.errors import ConfigError
        from wire.paths import model_at_channel

        worker = load_config("worker", config)
        limits = replace(worker.fit, hardware=hardware or worker.fit.hardware)
        ask = ask_of(worker.engine)
        ask = replace(
            ask,
            context_tokens=context or ask.context_tokens,
            slots=slots or ask.slots,
            key_type=kv_type,
            value_type=kv_type,
        )
        machine = place_for(limits, ram_bytes=int(ram * _GIB))
        path = Path(model)
        if is_gguf_path(model) or path.is_file():
            if variant:
                raise ConfigError("--variant goes with a published model; a file is one variant")
            fitted = fit_file(path, machine, ask, limits)
        else:
            name, channel = model_at_channel(model)
            where = place(state_dir)
            urls = [url.strip().rstrip("/") for url in source.split(",") if url.strip()]
            if not urls:
                known = where.reachable()
                urls = [known[tier].url for tier in ("edge", "origin") if tier in known]
            fitted = asyncio.run(
                fit_model(
                    name,
                    channel,
                    urls,
                    where.trust_root(trust_root),
                    machine,
                    ask,
                    limits,
                    variant=variant,
                    token=pull_token(token_file),
                )
            )
        output.result(fitted.as_dict(), fitted.show)
        if fitted.choice.refused:
            raise typer.Exit(FAILED)
