from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Root

from origin.documents import read
from origin.rotate import Changes, check_follows, prepare_rotation
from origin.rotation import FORMAT, Rotation, decode_rotation, encode_rotation
from origin.signing import Repository
from tests.fakes.revisions import ONLINE_KEY, PUBLISHER_KEY, ROOT_KEY, signing_key
from wire.errors import ConflictError, ForbiddenError, RequestInvalidError, TrustError

NOW = 1_000_000_000.0
NEW, NEW_2 = signing_key(8), signing_key(9)
_SEED = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=NOW)


def prepared(changes: Changes) -> Rotation:
    return prepare_rotation(_SEED.bundle(0), _SEED.first_root, changes, now=NOW)


def test_rotation_file_is_read_back() -> None:
    rotation = prepared(Changes(publisher=NEW.public_key, online=NEW_2.public_key))
    assert decode_rotation(encode_rotation(rotation)) == rotation
    assert b"PRIVATE" not in encode_rotation(rotation)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 10_000,
        b'{"format": "headwater.rotation/9", "current": ""}',
        json.dumps({"format": FORMAT, "current": "", "snapshot": "x"}).encode(),
    ],
)
def test_what_is_no_rotation_is_named(data: bytes) -> None:
    with pytest.raises(RequestInvalidError, match="rotation"):
        decode_rotation(data)


_FILE = encode_rotation(prepared(Changes(online=NEW.public_key)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_FILE) - 1), st.binary(min_size=1, max_size=4))
def test_any_change_to_the_file_is_refused_or_changes_only_what_may(
    position: int, noise: bytes
) -> None:
    """Whatever is read, the signer's own checks hold for it."""
    data = _FILE[:position] + noise + _FILE[position + len(noise) :]
    try:
        rotation = decode_rotation(data)
        check_follows(rotation, _SEED.first_root)
    except (RequestInvalidError, ForbiddenError, ConflictError, TrustError):
        return
    assert rotation.root is not None
    assert read(rotation.root, Root).signed.version == 2
