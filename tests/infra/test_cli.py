from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.state import Ready, StateDir, write_private, write_ready
from tests.fakes.tier import Canned, StubTier, stub_tier
from wire.sse import encode

COMMANDS = [
    "up",
    "demo",
    "origin",
    "origin init",
    "origin trust",
    "origin rotate",
    "origin renew",
    "origin new-key",
    "edge",
    "worker",
    "worker report",
    "publish",
    "roll",
    "rollback",
    "rolls",
    "purge",
    "pull",
    "chat",
    "status",
    "fleet",
    "fleet drain",
    "fleet resume",
    "fleet restart",
    "fleet repull",
    "fleet forget",
    "fleet consistency",
    "gc",
    "pin",
    "verify",
    "diff",
    "keys create",
    "keys list",
    "keys show",
    "keys revoke",
    "keys rotate",
    "audit",
    "policy check",
    "route explain",
    "tokens create",
    "tokens list",
    "tokens revoke",
    "config show",
    "version",
]
NEEDS_A_SYSTEM = [
    ["status"],
    ["fleet"],
    ["fleet", "drain", "w1"],
    ["fleet", "forget", "w1"],
    ["fleet", "consistency", "chat"],
    ["roll", "chat", "--to", "a" * 8],
    ["rollback", "chat"],
    ["rolls"],
    ["purge", "trust"],
    ["gc"],
    ["pin", "chat", "a" * 8],
    ["verify"],
    ["diff", "chat@a", "chat@b"],
    ["keys", "create", "--tenant", "shop"],
    ["keys", "list"],
    ["keys", "show", "k1"],
    ["keys", "revoke", "k1"],
    ["keys", "rotate", "k1"],
    ["audit"],
    ["worker", "report"],
    ["chat", "hello"],
    ["publish", "x.gguf", "--model", "chat"],
]
HEAVY = ("aiohttp", "tuf", "msgspec", "blake3", "cryptography", "structlog", "obstore")
REVISION, OTHER = "a" * 64, "b" * 64
ORIGIN_STATUS = {
    "channels": [{"model": "chat", "channel": "stable", "revision": OTHER, "sequence": 3}],
    "revisions": [{"model": "chat", "revision": r} for r in (REVISION, OTHER)],
    "trust": {"versions": {}, "expires": {}},
}
EDGE_STATUS = {
    "cache": {"store": {"chunks": 3, "used_bytes": 5}, "requests": {"hits": 1, "misses": 2}},
    "trust": {"problem": ""},
    "models": {"chat": OTHER},
    "workers": [
        {
            "worker": "w1",
            "model": "chat",
            "revision": OTHER,
            "state": "ready",
            "slots": 4,
            "busy": 1,
            "queue": 0,
            "reason": "",
        }
    ],
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands see a state directory of their own, and nothing of the environment's."""
    for name in ("ORIGIN_URL", "EDGE_URL", "ADMIN_TOKEN", "API_KEY", "CONFIG"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def document(*arguments: str) -> tuple[int, Any]:
    """Exit status of a command with ``--json``, and the one document on its stdout."""
    status, out, _ = run(*arguments, "--json")
    return status, json.loads(out)


def system(folder: Path, tier: StubTier) -> None:
    """Make the stub the system that runs in this state directory."""
    state = StateDir(folder)
    ready = Ready(
        origin=tier.url,
        edge=tier.url,
        worker=tier.url,
        cloud=tier.url,
        api_key="hw-k-secret",
        admin_token="hwadm-secret",
        state_dir=str(folder),
    )
    write_ready(state.ready_file, ready)
    write_private(state.worker_token, b"hwwrk-secret")
    write_private(state.cloud_token, b"hwcld-secret")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_an_example_and_the_json_option(command: str) -> None:
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    assert "--json" in out
    assert "Example" in out
    assert "$ " in out and "headwater" in out  # noqa: PT018 - one thought
    assert max(map(len, out.splitlines())) <= 80


def test_help_tells_what_the_exit_status_means() -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert "0 done, 1 failed, 2 usage or configuration" in out


def test_help_imports_nothing_that_is_slow() -> None:
    check = f"import sys, infra.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", NEEDS_A_SYSTEM, ids=lambda a: " ".join(a[:2]))
def test_without_a_system_every_command_says_what_to_do(arguments: list[str]) -> None:
    status, found = document(*arguments)
    assert status == USAGE
    assert found["error"]["code"] == "config_invalid"
    assert "headwater up" in found["error"]["message"]


def test_errors_are_one_line_on_stderr_and_no_traceback() -> None:
    status, out, err = run("status")
    assert status == USAGE
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["roll", "chat"], ["up", "--edge-port", "many"], ["keys", "create"]],
    ids=" ".join,
)
def test_usage_errors_exit_with_two(arguments: list[str]) -> None:
    status, out, _ = run(*arguments)
    assert status == USAGE
    assert out == ""


def test_a_tier_that_is_away_is_a_failure_with_a_remedy() -> None:
    status, found = document(
        "roll", "chat", "--to", "a" * 8, "--origin", "http://127.0.0.1:9", "--token-file", "x"
    )
    assert (status, found["error"]["code"]) == (USAGE, "config_invalid")


def test_nobody_there_exits_with_one(tmp_path: Path) -> None:
    write_private(tmp_path / "token", b"t")
    status, found = document(
        "purge", "trust", "--origin", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token")
    )
    assert status == FAILED
    assert found["error"]["code"] == "source_unavailable"
    assert "is it running?" in found["error"]["message"]


@pytest.mark.parametrize("model", ["../etc", "chat@", "chat@a/b", ""])
def test_a_name_that_cannot_be_one_is_a_usage_error(tmp_path: Path, model: str) -> None:
    with stub_tier({"GET /healthz": Canned({}), "GET /admin/status": Canned(ORIGIN_STATUS)}) as o:
        system(tmp_path, o)
        status, found = document("roll", model, "--to", "cccccccc")
    assert status in {FAILED, USAGE}
    assert found["error"]["code"] in {"name_invalid", "not_found"}


def test_a_hard_purge_is_sent_as_one(tmp_path: Path) -> None:
    answers = {"GET /healthz": Canned({}), "POST /admin/purge": Canned({"purged": "trust"})}
    with stub_tier(answers) as origin:
        system(tmp_path, origin)
        assert document("purge", "trust", "--hard") == (0, {"purged": "trust"})
    assert json.loads(origin.received[-1].body) == {"key": "trust", "hard": True}


def test_status_shows_every_tier(tmp_path: Path) -> None:
    answers = {
        "GET /readyz": Canned({"status": "ready"}),
        "GET /admin/status": Canned({**ORIGIN_STATUS, **EDGE_STATUS}),
    }
    with stub_tier(answers) as tier:
        system(tmp_path, tier)
        status, found = document("status")
        shown_status, shown, _ = run("status")
    assert status == shown_status == 0
    assert found["ready"]
    assert sorted(found["tiers"]) == ["cloud", "edge", "origin", "worker"]
    for text in ("chat@stable", OTHER[:12], "w1", "1/4", "3 chunks"):
        assert text in shown


def test_status_fails_where_a_tier_is_not_ready(tmp_path: Path) -> None:
    answers = {
        "GET /readyz": Canned({"detail": "no model yet"}, status=503),
        "GET /admin/status": Canned({}),
    }
    with stub_tier(answers) as tier:
        system(tmp_path, tier)
        status, found = document("status")
    assert status == FAILED
    assert found["tiers"]["worker"]["problem"] == "no model yet"


def test_a_created_key_is_shown_once(tmp_path: Path) -> None:
    made = {"key_id": "k1", "key": "hw-k1-secret"}
    with stub_tier({"POST /admin/keys": Canned(made)}) as edge:
        system(tmp_path, edge)
        arguments = ("keys", "create", "--tenant", "shop", "--privacy", "local", "--model", "chat")
        status, found = document(*arguments, "--requests-per-minute", "60")
        _, shown, _ = run(*arguments)
    assert (status, found) == (0, made)
    assert shown.count("hw-k1-secret") == 1
    assert json.loads(edge.received[0].body) == {
        "tenant": "shop",
        "scopes": ["chat"],
        "limits": {"requests_per_minute": 60},
        "policy": {"privacy": "local", "models": ["chat"]},
        "note": "",
    }


def test_keys_are_listed_with_their_limits(tmp_path: Path) -> None:
    key = {
        "key_id": "k1",
        "tenant": "shop",
        "limits": {"requests_per_minute": 60, "tokens_per_minute": 0},
        "policy": {"privacy": "local"},
        "revoked": None,
        "note": "",
    }
    with stub_tier({"GET /admin/keys": Canned({"keys": [key]})}) as edge:
        system(tmp_path, edge)
        assert document("keys", "list") == (0, {"keys": [key]})
        _, shown, _ = run("keys", "list")
    for text in ("k1", "shop", "valid", "60", "∞", "local"):
        assert text in shown


def test_an_unknown_key_cannot_be_revoked(tmp_path: Path) -> None:
    with stub_tier({}) as edge:
        system(tmp_path, edge)
        status, found = document("keys", "revoke", "k9")
    assert (status, found["error"]["code"]) == (FAILED, "not_found")


def answer_stream(*, done: bool) -> Canned:
    choice = {"delta": {"content": "Par\x1b[31mis."}, "finish_reason": "stop"}
    body = encode(json.dumps({"choices": [choice]})) + (encode("[DONE]") if done else b"")
    headers = {"x-headwater-route": "worker; model=chat", "x-model-digest": REVISION}
    return Canned(body, headers=headers)


def test_chat_prints_the_answer_and_no_escapes(tmp_path: Path) -> None:
    with stub_tier({"POST /v1/chat/completions": answer_stream(done=True)}) as edge:
        system(tmp_path, edge)
        status, out, err = run("chat", "Capital of France?", "-v", "--privacy", "local")
        _, found = document("chat", "Capital of France?")
    assert status == 0
    assert out == "Par\ufffd[31mis.\n"
    assert "worker; model=chat" in err
    assert found["text"] == "Par\x1b[31mis."
    assert found["whole"]
    assert edge.received[0].headers["x-headwater-privacy"] == "local"
    assert edge.received[0].headers["authorization"] == "Bearer hw-k-secret"


def test_an_answer_that_was_cut_off_is_a_failure(tmp_path: Path) -> None:
    with stub_tier({"POST /v1/chat/completions": answer_stream(done=False)}) as edge:
        system(tmp_path, edge)
        status, _, err = run("chat", "Capital of France?")
    assert status == FAILED
    assert "cut off" in err


def test_a_conversation_has_no_single_document(tmp_path: Path) -> None:
    status, found = document("chat")
    assert (status, found["error"]["code"]) == (USAGE, "config_invalid")


def test_a_conversation_goes_on_to_the_end_of_input(tmp_path: Path) -> None:
    with stub_tier({"POST /v1/chat/completions": answer_stream(done=True)}) as edge:
        system(tmp_path, edge)
        result = CliRunner().invoke(app, ["chat"], input="one\n\n/new\ntwo\nthree\n")
    assert result.exit_code == 0
    sent = [json.loads(request.body)["messages"] for request in edge.received]
    assert [[m["role"] for m in messages] for messages in sent] == [
        ["user"],
        ["user"],
        ["user", "assistant", "user"],
    ]


def test_config_show_says_where_values_come_from(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text("[origin]\nport = 9\n")
    status, found = document("config", "show", "--tier", "origin", "--changed")
    assert status == 0
    assert found == {
        "file": str(tmp_path / "headwater.toml"),
        "origin": {"port": {"value": 9, "from": "file"}},
    }


def test_a_configuration_that_cannot_be_used_exits_with_two(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text("[origin]\nport = 'x'\n")
    for arguments in (["config", "show", "--tier", "origin"], ["origin"]):
        status, found = document(*arguments, "--config", str(file))
        assert status == USAGE
        assert "port" in found["error"]["message"]


def test_origin_init_makes_keys_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_private(tmp_path / "passphrase", b"correct horse")
    arguments = ("origin", "init", "--passphrase-file", "passphrase")
    status, found = document(*arguments)
    assert status == 0
    assert Path(found["trust_root"]).exists()
    status, found = document(*arguments)
    assert (status, found["error"]["code"]) == (USAGE, "config_invalid")


def test_origin_init_without_a_passphrase_asks_for_one_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, found = document("origin", "init")
    assert status == USAGE
    assert "HEADWATER_ROOT_PASSPHRASE" in found["error"]["message"]


def test_pull_needs_a_trust_root(tmp_path: Path) -> None:
    status, found = document(
        "pull", "chat", "--from", "http://127.0.0.1:9", "--to", str(tmp_path / "models")
    )
    assert status == USAGE
    assert "root.json" in found["error"]["message"]


def test_up_on_a_state_directory_in_use_is_refused(tmp_path: Path) -> None:
    with StateDir(tmp_path).locked():
        status, found = document("up")
    assert (status, found["error"]["code"]) == (FAILED, "conflict")


def test_version_is_one_document() -> None:
    status, found = document("version")
    assert status == 0
    assert sorted(found) == ["headwater", "python"]
