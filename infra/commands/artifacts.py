"""``headwater publish | purge | pull``: models on their way down."""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    JsonOption,
    OriginOption,
    PublishKind,
    PullTokenFileOption,
    StateDirOption,
    TokenFileOption,
    place,
    pull_token,
)
from infra.commands.output import command
from infra.commands.publish_site import SiteOrder, publish_site, refuse_options_of_models
from wire.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from infra.golden import GoldenMaker

_IMPORT = "What is fetched"
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL[@CHANNEL]", help="The channel is stable if none is given.")
]


def publish(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file, a folder, hf://ORG/NAME, hf://ORG/NAME@REVISION/FILE, or an https URL.",
        ),
    ],
    kind: Annotated[
        PublishKind,
        typer.Option(
            "--kind",
            help="model: weights for workers. static: a folder of web pages, served by edges at "
            "/assets/NAME/.",
        ),
    ] = PublishKind.MODEL,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Name of the model; a hub's own if none is given."
        ),
    ] = None,
    channel: Annotated[str, typer.Option("--channel", help="Channel to point at it.")] = "stable",
    private: Annotated[
        bool, typer.Option("--private", help="Only a pull token opens the revision.")
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="GLOB", help="Of a folder or hub, only what fits."),
    ] = None,
    quant: Annotated[
        str,
        typer.Option(
            "--quant", metavar="TYPE[,TYPE...]", help="Publish these quantizations of the file."
        ),
    ] = "",
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="With --quant: publish the file itself too.")
    ] = False,
    immutable: Annotated[
        list[str] | None,
        typer.Option(
            "--immutable",
            metavar="GLOB",
            help="With --kind static: files whose names change with their content, beside those "
            "that look so (app-3f9a02bc.js).",
        ),
    ] = None,
    publisher_key: Annotated[
        Path | None,
        typer.Option(
            "--publisher-key",
            metavar="FILE",
            help="Key that signs the revision; the state directory's if none is given.",
        ),
    ] = None,
    parity: Annotated[
        bool | None,
        typer.Option(
            "--parity/--no-parity",
            help="Load the file in llama.cpp and compare tokenizers; done if it is installed.",
            show_default=False,
        ),
    ] = None,
    golden: Annotated[
        bool | None,
        typer.Option(
            "--golden/--no-golden",
            help="Publish what the model answers in llama.cpp, which workers compare before they "
            "serve it; done with --parity for files up to 4 GB.",
            show_default=False,
        ),
    ] = None,
    golden_prompts: Annotated[
        Path | None,
        typer.Option(
            "--golden-prompts",
            metavar="FILE",
            help="Prompts of your own for that, one on a line.",
        ),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir",
            metavar="DIR",
            help="Where fetched files wait to be published; the state directory's imports/.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    max_size: Annotated[
        int,
        typer.Option(
            "--max-size",
            metavar="GB",
            min=1,
            max=100_000,
            help="Largest file to fetch.",
            rich_help_panel=_IMPORT,
        ),
    ] = 200,
    allow_private_network: Annotated[
        bool,
        typer.Option(
            "--allow-private-network",
            help="A URL may lead to this machine and to private networks, on any port.",
            rich_help_panel=_IMPORT,
        ),
    ] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check, cut, sign and upload a model or a static site, and point a channel at it.

    Only chunks that the origin lacks are sent; one that broke off is repeated. Models on a hub are
    fetched from HF_ENDPOINT with HF_TOKEN.

    Example:

      $ headwater publish chat-q5.gguf --model chat-small
      $ headwater publish hf://org/name@main --include '*Q4_K_M*' --channel candidate
      $ headwater publish chat-f16.gguf --model chat-small --quant Q4_K_M,Q8_0
      $ headwater publish dist/ --kind static --model docs --channel preview
    """
    with command(as_json=as_json) as output, ExitStack() as stack:
        if kind is PublishKind.STATIC:
            given = {
                "--include": include, "--quant": quant, "--keep-source": keep_source,
                "--parity": parity, "--golden": golden, "--golden-prompts": golden_prompts,
            }  # fmt: skip
            refuse_options_of_models(name for name, value in given.items() if value)
            publish_site(
                output,
                place(state_dir, origin=origin, token_file=token_file),
                SiteOrder(Path(source), model or "", channel, tuple(immutable or ()), private),
                publisher_key,
            )
            return
        if immutable:
            raise ConfigError("--immutable goes with --kind static")
        from infra.importing import ImportConfig, names_a_model, offered, requantized

        types = [kind.strip() for kind in quant.split(",") if kind.strip()]
        if model is None and not names_a_model(source):
            raise ConfigError("give the model a name: --model NAME")
        if keep_source and not types:
            raise ConfigError("--keep-source goes with --quant")
        from infra.parity import engine_is_installed
        from infra.publishing import open_publisher

        parity = engine_is_installed() if parity is None else parity
        maker = _golden_maker(golden, golden_prompts, parity=parity)
        where = place(state_dir, origin=origin, token_file=token_file)
        access, key = where.origin_admin(), where.publisher_key(publisher_key)
        config = ImportConfig(
            work_dir=work_dir or state_dir / "imports",
            max_bytes=max_size * 10**9,
            allow_private_network=allow_private_network,
        )
        desk = stack.enter_context(open_publisher(access.url, access.secret, key))
        progress = stack.enter_context(output.progress(model or source))
        offer = stack.enter_context(
            offered(source, config, include=include or (), progress=progress)
        )
        report = None
        if types:
            offer, report = stack.enter_context(
                requantized(offer, types, config, keep_source=keep_source, progress=progress)
            )
        published = desk.publish(
            offer.files,
            model or offer.name,
            channel,
            metadata=offer.metadata,
            private=private,
            parity=parity,
            golden=maker,
            progress=progress,
        )
        result = {
            **asdict(published),
            "variants": list(published.variants),
            "channel": channel,
            "private": private,
            "parity": parity,
            **offer.metadata,
        }
        if maker is not None and maker.note:
            result["note"] = maker.note
        shown = {**result, "variants": ", ".join(published.variants) or "none"}
        if report is not None:
            result["quantization"] = report.as_dict()

        def show(console: Console) -> None:
            if report is not None:
                report.show(console)
            _show(console, shown, {"size", "sent_bytes"})

        output.result(result, show)


def _golden_maker(wanted: bool | None, prompts: Path | None, *, parity: bool) -> GoldenMaker | None:
    """What asks the model; where nobody said, with the engine that the parity check needs too."""
    from infra.golden import PROMPTS, GoldenMaker, read_prompts
    from infra.parity import engine_is_installed

    if wanted and not engine_is_installed():
        raise ConfigError("--golden needs an engine: pip install 'headwater[worker]'")
    if wanted is False or (wanted is None and not parity):
        if prompts is not None:
            raise ConfigError("--golden-prompts goes with --golden")
        return None
    asked = PROMPTS if prompts is None else read_prompts(prompts)
    return GoldenMaker(asked, required=bool(wanted) or prompts is not None)


def purge(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A surrogate key: channel:MODEL@CHANNEL, revision:ID, chunk:ID or trust.",
        ),
    ],
    hard: Annotated[
        bool, typer.Option("--hard", help="Take it down for good: 410 everywhere, no way back.")
    ] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell every cache to ask again for what is filed under a key, or never to serve it again.

    Example:

      $ headwater purge channel:chat-small@stable
      $ headwater purge revision:0fa83c11... --hard
    """
    with command(as_json=as_json) as output:
        access = place(state_dir, origin=origin, token_file=token_file).origin_admin()
        from infra.publishing import open_origin

        with open_origin(access.url, access.secret) as admin:
            result = admin.purge(key, hard=hard)
        output.result(result, lambda console: _show(console, result))


def pull(
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for models.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL[,URL...]", help="Edges or origins; the nearest gives most."
        ),
    ],
    trust_root: Annotated[
        Path | None,
        typer.Option(
            "--trust-root",
            metavar="FILE",
            help="The publisher's root.json; the state directory's if none is given.",
        ),
    ] = None,
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            metavar="NAME",
            help="Which of a revision's variants; the one a worker would take if none is given.",
        ),
    ] = "",
    flush: Annotated[
        bool,
        typer.Option(
            "--flush",
            help="Wait for the disk. Without, a power cut soon after costs a check of every chunk.",
        ),
    ] = False,
    token_file: PullTokenFileOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Bring a model to this disk: verified, resumed where it broke off, from several sources.

    What an older revision in DIR has already is copied, not fetched.

    Example:

      $ headwater pull chat-small --from http://edge-1:7401,http://edge-2:7401 --to /models
      $ headwater pull chat-small --variant Q4_K_M --from http://edge-1:7401 --to /models
    """
    import asyncio

    with command(as_json=as_json) as output:
        from infra.pulling import pull_model
        from wire.paths import model_at_channel

        name, channel = model_at_channel(model)
        urls = [url.strip().rstrip("/") for url in source.split(",") if url.strip()]
        if not urls:
            raise ConfigError("--from names no URL")
        root = place(state_dir).trust_root(trust_root)
        with output.progress(name) as progress:
            pulled = asyncio.run(
                pull_model(
                    name,
                    channel,
                    urls,
                    to,
                    root,
                    variant=variant,
                    token=pull_token(token_file),
                    flush=flush,
                    progress=progress,
                )
            )
        result = pulled.as_dict()
        output.result(result, lambda console: pulled.show(console))


def _show(console: Console, result: Mapping[str, object], sizes: Set[str] = frozenset()) -> None:
    from infra.render import pairs, size

    shown = {
        name.replace("_", " "): size(float(str(value))) if name in sizes else value
        for name, value in result.items()
    }
    console.print(pairs(shown))
