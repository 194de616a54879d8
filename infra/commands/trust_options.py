"""Options of the commands about trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_NEW, _PUBLIC, _CEREMONY = "New keys, made here", "New keys, made elsewhere", "Ceremony"

KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="DIR", help="Folder of keys; the state directory's if none is given."
    ),
]
TrustRootOption = Annotated[
    Path | None,
    typer.Option(
        "--trust-root",
        metavar="FILE",
        help="The root.json that is trusted here; the key folder's if none is given.",
    ),
]
NewRootOption = Annotated[bool, typer.Option("--root", help="New root keys.", rich_help_panel=_NEW)]
RootKeysOption = Annotated[
    int | None,
    typer.Option(
        "--root-keys",
        metavar="N",
        min=1,
        help="With --root: how many; as many as now if not given.",
        rich_help_panel=_NEW,
    ),
]
RootThresholdOption = Annotated[
    int | None,
    typer.Option(
        "--root-threshold",
        metavar="K",
        min=1,
        help="How many root keys a root needs; as many as now if not given.",
    ),
]
NewPublisherOption = Annotated[
    bool,
    typer.Option("--publisher", help="A new publisher's key.", rich_help_panel=_NEW),
]
NewOnlineOption = Annotated[
    bool,
    typer.Option(
        "--online",
        help="A new online key; --keys is then the origin's own folder.",
        rich_help_panel=_NEW,
    ),
]
RootPublicOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--root-key",
        metavar="PUB",
        help="Public key of a next root key; give all of them.",
        rich_help_panel=_PUBLIC,
    ),
]
PublisherPublicOption = Annotated[
    Path | None,
    typer.Option(
        "--publisher-key",
        metavar="PUB",
        help="Public key of the next publisher.",
        rich_help_panel=_PUBLIC,
    ),
]
GraceOption = Annotated[
    float | None,
    typer.Option(
        "--offline-grace-days",
        metavar="DAYS",
        min=0,
        help="How long past its expiry tiers may work from what they verified.",
    ),
]
PrepareOption = Annotated[
    Path | None,
    typer.Option(
        "--prepare",
        metavar="FILE",
        help="Only write what is to be signed into FILE.",
        rich_help_panel=_CEREMONY,
    ),
]
SignOption = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="FILE",
        help="Only add signatures to FILE; needs no origin.",
        rich_help_panel=_CEREMONY,
    ),
]
SignKeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="With --sign: a private key to sign with; may be repeated.",
        rich_help_panel=_CEREMONY,
    ),
]
SubmitOption = Annotated[
    Path | None,
    typer.Option(
        "--submit",
        metavar="FILE",
        help="Only hand FILE over, once enough have signed.",
        rich_help_panel=_CEREMONY,
    ),
]
