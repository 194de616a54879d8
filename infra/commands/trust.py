"""``headwater origin trust | rotate | renew | new-key``: what is signed, and who signs it next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    JsonOption,
    OriginOption,
    StateDirOption,
    TokenFileOption,
    place,
)
from infra.commands.output import Output, command
from infra.commands.passphrase import PassphraseOption, passphrase
from infra.commands.trust_options import (
    GraceOption,
    KeysOption,
    NewOnlineOption,
    NewPublisherOption,
    NewRootOption,
    PrepareOption,
    PublisherPublicOption,
    RootKeysOption,
    RootPublicOption,
    RootThresholdOption,
    SignKeyOption,
    SignOption,
    SubmitOption,
    TrustRootOption,
)
from infra.commands.trust_show import show_pairs, show_report, show_rotation
from wire.errors import ConfigError

if TYPE_CHECKING:
    from infra.trust_desk import TrustDesk, Wanted
    from origin.rotation import Rotation

_DAY_S = 86_400.0


def trust(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    keys: KeysOption = None,
    trust_root: TrustRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is signed: versions, expiries, keys, the offline grace, and what is due.

    Root, targets and revisions are signed by offline keys; an origin cannot renew them.

    Example:

      $ headwater origin trust
      $ headwater origin trust --origin http://origin:7400 --trust-root root.json --json
    """
    with command(as_json=as_json) as output:
        where = _Where(state_dir, origin, token_file, keys, trust_root)
        from origin.trust_report import report

        with where.desk() as desk:
            found = report(desk.current(), time.time())
        output.result(found, lambda console: show_report(console, found))


def rotate(
    root: NewRootOption = False,
    root_keys: RootKeysOption = None,
    root_threshold: RootThresholdOption = None,
    publisher: NewPublisherOption = False,
    online: NewOnlineOption = False,
    root_key: RootPublicOption = None,
    publisher_key: PublisherPublicOption = None,
    grace_days: GraceOption = None,
    prepare: PrepareOption = None,
    sign: SignOption = None,
    key: SignKeyOption = None,
    submit: SubmitOption = None,
    passphrase_file: PassphraseOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    keys: KeysOption = None,
    trust_root: TrustRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a next root: with other keys, another threshold, or only a later expiry.

    With all keys in one folder it is one step. With keys on several machines: --prepare
    writes a file, --sign adds a signature wherever a key is, --submit hands it over when
    a threshold of the old root keys and one of the new have signed. Running tiers follow
    without a restart. After a stolen online key rotate --online, and every client forgets
    the versions that the thief has set.

    Example:

      $ headwater origin rotate --online
      $ headwater origin rotate --root --root-keys 3 --root-threshold 2 --prepare next.json
      $ headwater origin rotate --sign next.json --key root-1.key
      $ headwater origin rotate --submit next.json
    """
    with command(as_json=as_json) as output:
        if sum(file is not None for file in (prepare, sign, submit)) > 1:
            raise ConfigError("give one of --prepare, --sign and --submit")
        if key and sign is None:
            raise ConfigError("--key goes with --sign")
        where = _Where(state_dir, origin, token_file, keys, trust_root)
        secret = _Passphrase(passphrase_file or where.passphrase_file(), confirm=root)
        if sign is not None:
            _sign(sign, key or [], where.anchor(), secret, output)
            return
        if submit is not None:
            _submit(submit, where, output)
            return
        from infra.trust_desk import Wanted

        wanted = Wanted(
            root=root,
            root_keys=root_keys,
            root_threshold=root_threshold,
            root_public=tuple(root_key or ()),
            publisher=publisher,
            publisher_public=publisher_key,
            online=online,
            grace_s=grace_days * _DAY_S if grace_days is not None else None,
        )
        if root_keys is not None and not root:
            raise ConfigError("--root-keys goes with --root")
        if prepare is not None:
            _prepare(prepare, wanted, where, secret, output)
        else:
            _rotate_here(wanted, where, secret, output)


def renew(
    publisher_key: Annotated[
        Path | None,
        typer.Option(
            "--publisher-key",
            metavar="FILE",
            help="The publisher's key; the key folder's if none is given.",
        ),
    ] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    origin: OriginOption = None,
    token_file: TokenFileOption = None,
    keys: KeysOption = None,
    trust_root: TrustRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the publisher's documents, targets and revisions, a later expiry.

    The root is renewed by `headwater origin rotate`, with the root keys.

    Example:

      $ headwater origin renew
    """
    with command(as_json=as_json) as output:
        where = _Where(state_dir, origin, token_file, keys, trust_root)
        from origin.keys import PUBLISHER_KEY, load_key
        from origin.rotate import add_signatures
        from origin.trust_report import report

        signer = load_key(publisher_key or where.keys / PUBLISHER_KEY)
        with where.desk() as desk:
            desk.submit(add_signatures(desk.prepare_renewal(), desk.anchor, [signer]))
            found = report(desk.current(), time.time())
        output.result(found, lambda console: show_report(console, found))


def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is to be.")],
    passphrase_file: PassphraseOption = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Not encrypted, as a publisher's key is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a rotation that is prepared elsewhere; FILE.pub is what goes there.

    Example:

      $ headwater origin new-key alice.key
    """
    with command(as_json=as_json) as output:
        from origin.keys import new_key as make
        from origin.keys import write_public

        made = make(file, None if plain else passphrase(passphrase_file)).public_key
        public = file.with_name(f"{file.name}.pub")
        write_public(public, made)
        told = {"key": str(file), "public": str(public), "id": made.keyid}
        output.result(told, lambda console: show_pairs(console, told))


class _Where:
    """The origin, the key folder and the trusted root that a command is about."""

    def __init__(
        self,
        state_dir: Path,
        origin: str | None,
        token_file: Path | None,
        keys: Path | None,
        trust_root: Path | None,
    ) -> None:
        from infra.state import StateDir

        self._state = StateDir(state_dir)
        self._own_keys = keys is None
        self._place = place(state_dir, origin=origin, token_file=token_file)
        self.keys = keys or self._state.keys
        self._root = trust_root or self.keys / "root.json"

    def anchor(self) -> bytes:
        """The trusted root."""
        from infra.trust_desk import read_anchor

        return read_anchor(self._root)

    def passphrase_file(self) -> Path | None:
        """Where a local system keeps the passphrase of its own root key."""
        file = self._state.passphrase_file
        return file if self._own_keys and file.exists() else None

    @contextmanager
    def desk(self) -> Iterator[TrustDesk]:
        """The origin with the keys."""
        from infra.trust_desk import open_desk

        access = self._place.origin_admin()
        with open_desk(access.url, access.secret, self.keys, self.anchor()) as desk:
            yield desk


class _Passphrase:
    """Asked for when it is needed, and once."""

    def __init__(self, file: Path | None, *, confirm: bool) -> None:
        self._file = file
        self._confirm = confirm
        self._known: str | None = None

    def __call__(self) -> str:
        if self._known is None:
            self._known = passphrase(self._file, confirm=self._confirm)
        return self._known


def _prepare(
    file: Path, wanted: Wanted, where: _Where, secret: Callable[[], str], output: Output
) -> None:
    from infra.trust_desk import write_rotation

    if file.exists():
        raise ConfigError(f"{file} is there already; name another file")
    with where.desk() as desk:
        rotation = desk.prepare(wanted, secret() if wanted.root else "")
        write_rotation(file, rotation)
        _tell(rotation, desk.anchor, file, output)


def _sign(
    file: Path, keys: list[Path], anchor: bytes, secret: Callable[[], str], output: Output
) -> None:
    from infra.trust_desk import sign_file
    from origin.keys import is_encrypted, load_key

    if not keys:
        raise ConfigError("--sign needs --key")
    signers = [load_key(path, secret() if is_encrypted(path) else None) for path in keys]
    _tell(sign_file(file, anchor, list(signers)), anchor, file, output)


def _submit(file: Path, where: _Where, output: Output) -> None:
    from infra.trust_desk import read_rotation

    rotation = read_rotation(file)
    with where.desk() as desk:
        is_new = desk.submit(rotation)
        _tell_done(desk, is_new, output)


def _rotate_here(wanted: Wanted, where: _Where, secret: Callable[[], str], output: Output) -> None:
    if wanted.root_public or wanted.publisher_public:
        raise ConfigError("keys that were made elsewhere sign elsewhere; use --prepare")
    with where.desk() as desk:
        word = secret()
        signed = desk.sign_here(desk.prepare(wanted, word), word)
        _tell_done(desk, desk.submit(signed), output)


def _tell(rotation: Rotation, anchor: bytes, file: Path, output: Output) -> None:
    from origin.rotate import describe_rotation

    told: dict[str, Any] = {"file": str(file), **describe_rotation(rotation, anchor)}
    output.result(told, lambda console: show_rotation(console, told))


def _tell_done(desk: TrustDesk, is_new: bool, output: Output) -> None:
    from origin.trust_report import report

    found = {"accepted": is_new, **report(desk.current(), time.time())}
    output.result(found, lambda console: show_report(console, found))
