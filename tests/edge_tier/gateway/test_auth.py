from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge_tier.gateway.auth import (
    Authenticator,
    InvalidKeyError,
    KeyStore,
    ModelForbiddenError,
    bearer_token,
    read_pepper,
    require_model,
    require_scope,
)
from edge_tier.gateway.request import Caller, Limits, Policy
from wire.errors import ConfigError, ConflictError, ForbiddenError, NameInvalidError, NotFoundError

PEPPER = bytes(range(32))
NOON = 1_750_000_000.0


@dataclass
class Edge:
    """A key file that several processes open."""

    path: Path
    clock: Any

    def open(self) -> KeyStore:
        return KeyStore(self.path, PEPPER, clock=self.clock, wall_clock=lambda: NOON)

    def pass_a_look(self) -> None:
        self.clock.advance(1.0)


@pytest.fixture
def edge(tmp_path: Path, clock: Any) -> Edge:
    return Edge(tmp_path / "keys.json", clock)


@pytest.fixture
def store(edge: Edge) -> KeyStore:
    return edge.open()


@pytest.fixture
def logs() -> Iterator[Any]:
    with capture_logs() as entries:
        yield entries


def assert_invalid(store: Authenticator, authorization: str | None) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        store.authenticate(authorization)
    error = refused.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert error.headers["WWW-Authenticate"].startswith('Bearer realm="headwater"')
    assert not authorization or len(authorization) < 40 or authorization not in error.message


def test_a_new_key_is_its_tenant(store: KeyStore) -> None:
    limits, policy = Limits(requests_per_minute=5), Policy(privacy="local")
    record, key = store.create(tenant="acme", limits=limits, policy=policy, note="nightly")
    assert store.authenticate(f"Bearer {key}") == Caller(
        key_id=record.key_id,
        tenant="acme",
        scopes=frozenset({"chat"}),
        limits=limits,
        policy=policy,
    )
    assert (record.note, record.created.timestamp(), record.revoked) == ("nightly", NOON, None)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_the_scheme_is_read_as_http_has_it(store: KeyStore, form: str) -> None:
    _, key = store.create(tenant="acme")
    assert store.authenticate(form.format(key)).tenant == "acme"


def test_no_header_asks_for_one(store: KeyStore) -> None:
    for missing in (None, ""):
        with pytest.raises(InvalidKeyError, match="no API key") as refused:
            store.authenticate(missing)
        assert refused.value.headers["WWW-Authenticate"] == 'Bearer realm="headwater"'


def test_another_key_of_the_same_form_is_invalid(store: KeyStore) -> None:
    _, key = store.create(tenant="acme")
    end = "a" if key[-1] != "a" else "b"
    assert_invalid(store, f"Bearer {key[:-1]}{end}")
    assert_invalid(store, f"Bearer {key}{end}")
    assert_invalid(store, f"Bearer hw-zzzzzzzz-{key[-32:]}")


def test_the_secret_of_one_key_does_not_open_another(store: KeyStore) -> None:
    one, _ = store.create(tenant="one")
    _, key = store.create(tenant="two")
    assert_invalid(store, f"Bearer hw-{one.key_id}-{key[-32:]}")


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Basic aHc6aHc=",
        "Token hw-acme0001-" + "a" * 32,
        "Bearer " + "a" * 250,
        "Bearer hw-acme0001-" + "a" * 100_000,
        "Bearer \udcff\udcff",
        "Bearer hw-acme0001-" + "a" * 32 + ", Bearer x",
    ],
)
def test_what_is_no_key_is_invalid(store: KeyStore, authorization: str) -> None:
    assert_invalid(store, authorization)


@given(authorization=st.text(max_size=300) | st.text(max_size=80).map("Bearer hw-{}".format))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_answered_with_invalid(store: KeyStore, authorization: str) -> None:
    assert_invalid(store, authorization)


def test_the_file_holds_a_keyed_digest_and_never_the_key(edge: Edge, store: KeyStore) -> None:
    record, key = store.create(tenant="acme")
    text = edge.path.read_text()
    assert record.digest == hmac.new(PEPPER, key.encode(), hashlib.sha256).hexdigest()
    assert record.digest in text
    assert key not in text
    assert key[-32:] not in text
    assert edge.path.stat().st_mode & 0o777 == 0o600


def test_keys_are_in_no_repr_and_no_log(edge: Edge, store: KeyStore, logs: Any) -> None:
    record, key = store.create(tenant="acme")
    caller = store.authenticate(f"Bearer {key}")
    edge.path.write_text("broken")
    edge.pass_a_look()
    store.authenticate(f"Bearer {key}")
    shown = f"{record!r} {caller!r} {store!r} {logs!r}"
    assert len(logs) == 1
    assert key[-32:] not in shown
    assert record.digest not in shown


def test_another_pepper_opens_nothing(edge: Edge, store: KeyStore) -> None:
    _, key = store.create(tenant="acme")
    assert_invalid(KeyStore(edge.path, bytes(32)), f"Bearer {key}")


def test_a_key_is_valid_after_a_restart(edge: Edge, store: KeyStore) -> None:
    record, key = store.create(tenant="acme")
    again = edge.open()
    assert again.authenticate(f"Bearer {key}").tenant == "acme"
    assert again.list() == (record,)


def test_a_revoked_key_is_invalid_at_once_and_stays_listed(store: KeyStore) -> None:
    record, key = store.create(tenant="acme")
    revoked = store.revoke(record.key_id)
    assert revoked.revoked is not None
    assert_invalid(store, f"Bearer {key}")
    assert store.list() == (revoked,)
    assert store.revoke(record.key_id) == revoked


def test_a_key_nobody_has_cannot_be_revoked(edge: Edge, store: KeyStore) -> None:
    with pytest.raises(NotFoundError, match="zzzz"):
        store.revoke("zzzz")
    assert not edge.path.exists()


def test_other_processes_follow_within_one_look(edge: Edge, store: KeyStore) -> None:
    server = edge.open()
    record, key = store.create(tenant="acme")
    assert_invalid(server, f"Bearer {key}")
    edge.pass_a_look()
    assert server.authenticate(f"Bearer {key}").tenant == "acme"
    store.revoke(record.key_id)
    assert server.authenticate(f"Bearer {key}").tenant == "acme"
    edge.pass_a_look()
    assert_invalid(server, f"Bearer {key}")


def test_an_unchanged_file_is_not_read_again(edge: Edge, store: KeyStore, logs: Any) -> None:
    _, key = store.create(tenant="acme")
    before = edge.path.stat()
    edge.path.write_bytes(b"x" * before.st_size)  # broken, but looks the same
    os.utime(edge.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    edge.pass_a_look()
    assert store.authenticate(f"Bearer {key}").tenant == "acme"
    assert logs == []


@pytest.mark.parametrize("fault", ["broken", "gone", "open to others"])
def test_an_unusable_file_is_reported_once_and_the_last_keys_hold(
    edge: Edge, store: KeyStore, logs: Any, fault: str
) -> None:
    _, key = store.create(tenant="acme")
    if fault == "gone":
        edge.path.unlink()
    elif fault == "broken":
        edge.path.write_text("{")
    else:
        edge.path.write_bytes(edge.path.read_bytes())
        edge.path.chmod(0o644)
    for _ in range(3):
        edge.pass_a_look()
        assert store.authenticate(f"Bearer {key}").tenant == "acme"
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_an_unusable_file_is_never_written_over(edge: Edge, store: KeyStore) -> None:
    store.create(tenant="acme")
    edge.path.write_text("{")
    with pytest.raises(ConfigError):
        store.create(tenant="other")
    assert edge.path.read_text() == "{"
    with pytest.raises(ConfigError):
        edge.open()


def test_many_processes_create_at_once_and_none_is_lost(edge: Edge) -> None:
    def create(number: int) -> str:
        return edge.open().create(tenant=f"tenant{number}")[1]

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(create, range(24)))
    store = edge.open()
    tenants = [store.authenticate(f"Bearer {key}").tenant for key in keys]
    assert tenants == [f"tenant{number}" for number in range(24)]


def test_a_tenant_that_cannot_be_one_makes_no_key(edge: Edge, store: KeyStore) -> None:
    with pytest.raises(NameInvalidError, match="tenant"):
        store.create(tenant="a b")
    assert not edge.path.exists()


def test_a_scope_is_needed(caller: Any) -> None:
    require_scope(caller(), "chat")
    with pytest.raises(ForbiddenError, match="'admin'") as refused:
        require_scope(caller(), "admin")
    assert 'error="insufficient_scope"' in refused.value.headers["WWW-Authenticate"]


def named(*models: str) -> Caller:
    return Caller(
        key_id="key1", tenant="t", scopes=frozenset({"chat"}), policy=Policy(models=models)
    )


def test_a_caller_may_name_what_its_policy_lists() -> None:
    require_model(named(), "anything")
    require_model(named("chat-small", "auto"), "auto")
    for model in ("auto", "chat-large", "", "chat-small "):
        with pytest.raises(ModelForbiddenError) as refused:
            require_model(named("chat-small"), model)
        assert (refused.value.status, refused.value.code) == (403, "model_not_found")


def test_a_long_model_name_is_not_echoed_whole() -> None:
    with pytest.raises(ModelForbiddenError) as refused:
        require_model(named("chat-small"), "x" * 10_000)
    assert len(refused.value.message) < 200


def test_a_bearer_token_is_bounded() -> None:
    assert bearer_token("Bearer " + "a" * 249) == "a" * 249
    with pytest.raises(InvalidKeyError):
        bearer_token("Bearer " + "a" * 250)


def test_the_first_start_makes_a_pepper_and_later_ones_keep_it(tmp_path: Path) -> None:
    keys, pepper = tmp_path / "keys.json", tmp_path / "pepper"
    _, key = KeyStore.open(keys, pepper).create(tenant="acme")
    assert pepper.stat().st_mode & 0o777 == 0o600
    assert KeyStore.open(keys, pepper).authenticate(f"Bearer {key}").tenant == "acme"


def test_a_lost_pepper_is_not_replaced_in_silence(tmp_path: Path) -> None:
    keys, pepper = tmp_path / "keys.json", tmp_path / "pepper"
    KeyStore.open(keys, pepper).create(tenant="acme")
    pepper.unlink()
    with pytest.raises(ConfigError, match="pepper"):
        KeyStore.open(keys, pepper)
    assert not pepper.exists()


@pytest.mark.parametrize("content", [b"", b"short", b"g" * 64, b"a" * 63, b"a" * 2_000, b"\xff"])
def test_what_is_no_pepper_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="pepper"):
        read_pepper(path, create=True)


def test_a_pepper_may_come_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_text(PEPPER.hex() + "\n")
    path.chmod(0o400)
    assert read_pepper(path, create=False) == PEPPER


def test_a_key_ends_when_it_expires(edge: Edge) -> None:
    now = [NOON]
    store = KeyStore(edge.path, PEPPER, clock=edge.clock, wall_clock=lambda: now[0])
    expires = datetime.fromtimestamp(NOON + 60, UTC)
    _, key = store.create(tenant="acme", expires=expires)
    assert store.authenticate(f"Bearer {key}").tenant == "acme"
    now[0] = NOON + 59.9
    assert store.authenticate(f"Bearer {key}").tenant == "acme"
    now[0] = NOON + 60
    assert_invalid(store, f"Bearer {key}")  # remembered, but not past its end
    for wrong in (expires, datetime(2090, 1, 1)):
        with pytest.raises(NameInvalidError, match="expire"):
            store.create(tenant="acme", expires=wrong)


def test_a_rotated_key_has_two_secrets_for_the_grace(edge: Edge) -> None:
    now = [NOON]
    store = KeyStore(edge.path, PEPPER, clock=edge.clock, wall_clock=lambda: now[0])
    record, old = store.create(tenant="acme")
    store.authenticate(f"Bearer {old}")
    _, new = store.rotate(record.key_id, grace_s=60)
    for key in (old, new):
        assert store.authenticate(f"Bearer {key}").key_id == record.key_id
    now[0] = NOON + 60
    assert_invalid(store, f"Bearer {old}")
    _, newest = store.rotate(record.key_id)
    assert_invalid(store, f"Bearer {new}")
    assert store.authenticate(f"Bearer {newest}").tenant == "acme"
    store.revoke(record.key_id)
    with pytest.raises(ConflictError, match="revoked"):
        store.rotate(record.key_id)
    with pytest.raises(NameInvalidError, match="grace"):
        store.rotate(record.key_id, grace_s=-1)


def test_a_remembered_key_is_the_same_caller_and_still_revocable(edge: Edge) -> None:
    one, two = edge.open(), edge.open()
    record, key = one.create(tenant="acme")
    edge.clock.advance(0.25)
    caller = two.authenticate(f"Bearer {key}")
    assert two.authenticate(f"Bearer {key}") is caller
    one.revoke(record.key_id)
    edge.clock.advance(0.25)
    assert_invalid(two, f"Bearer {key}")


REVOKER = """
import sys
from pathlib import Path
from edge_tier.gateway.auth import KeyStore
KeyStore(Path(sys.argv[1]), bytes(range(32))).revoke(sys.argv[2])
"""


def test_what_another_process_revokes_is_refused_within_a_second(
    tmp_path: Path, clock: Any
) -> None:
    store = KeyStore(tmp_path / "keys.json", PEPPER, clock=clock)
    record, key = store.create(tenant="acme")
    header = f"Bearer {key}"
    arguments = [sys.executable, "-c", REVOKER, str(tmp_path / "keys.json"), record.key_id]
    with subprocess.Popen(arguments) as process:
        while process.poll() is None:
            with suppress(InvalidKeyError):
                store.authenticate(header)
            clock.advance(0.001)
            time.sleep(0.001)
    assert process.returncode == 0
    clock.advance(0.99)
    assert_invalid(store, header)
