"""The ``headwater`` command as people use it: real processes against a running ``headwater up``."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from infra import demo_models
from infra.edge_admin import TierAdmin
from infra.local_config import CLOUD_MODEL, LOCAL_MODEL
from tests.fakes.fleet import eventually
from tests.fakes.headwater import Up, headwater, running_up
from tests.fakes.processes import processes_in


@pytest.fixture(scope="module")
def up(up_folder: Path) -> Iterator[Up]:
    """A system that ``headwater up`` has just brought up."""
    pytest.importorskip("xllamacpp")
    with running_up(up_folder) as up:
        yield up


def run(up: Up, *arguments: str) -> Any:
    """A command that must succeed; its JSON."""
    code, document, notes = headwater(*arguments, state_dir=up.state_dir)
    assert code == 0, notes
    return document


def ask(up: Up, key: str) -> str:
    """The model that answers with this key."""
    with OpenAI(api_key=key, base_url=f"{up.ready['edge']}/v1", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        return client.chat.completions.create(
            model=LOCAL_MODEL, messages=messages, max_tokens=1
        ).model


def test_the_ready_file_tells_only_its_owner_where_everything_is(up: Up) -> None:
    names = {"origin", "edge", "worker", "cloud", "api_key", "admin_token", "state_dir"}
    assert set(up.ready) == names
    assert stat.S_IMODE(up.ready_file.stat().st_mode) == 0o600
    assert up.ready["state_dir"] == str(up.state_dir)
    assert up.seen_broken == 0, "the file was seen before it was whole"
    for tier in ("origin", "edge", "worker", "cloud"):
        with TierAdmin(up.ready[tier]) as admin:
            assert admin.why_not_ready() == ""
    assert ask(up, up.ready["api_key"]) == LOCAL_MODEL


def test_people_are_told_where_the_console_is(up: Up) -> None:
    log = up.state_dir.with_name(f"{up.state_dir.name}-up.log")
    eventually(lambda: f"{up.ready['origin']}/console" in log.read_text())
    assert up.ready["admin_token"] not in log.read_text()


def test_a_second_up_on_the_same_folder_is_refused(up: Up) -> None:
    code, document, _ = headwater("up", "--edge-port=0", state_dir=up.state_dir)
    assert code != 0
    assert "in use by process" in document["error"]["message"]
    assert ask(up, up.ready["api_key"]) == LOCAL_MODEL


def test_status_shows_every_tier(up: Up) -> None:
    found = run(up, "status")
    assert found["ready"] is True
    assert {name for name, tier in found["tiers"].items() if tier["ready"]} == {
        "origin", "edge", "worker", "cloud",
    }  # fmt: skip
    channels = found["tiers"]["origin"]["status"]["channels"]
    assert {channel["model"] for channel in channels} >= {LOCAL_MODEL, CLOUD_MODEL}


def test_a_key_opens_the_edge_until_it_is_revoked(up: Up) -> None:
    made = run(up, "keys", "create", "--tenant=shop", "--requests-per-minute=9")
    assert ask(up, made["key"]) == LOCAL_MODEL
    listed = {key["key_id"]: key for key in run(up, "keys", "list")["keys"]}
    assert listed[made["key_id"]]["tenant"] == "shop"
    assert listed[made["key_id"]]["limits"]["requests_per_minute"] == 9
    assert made["key"] not in str(listed)
    run(up, "keys", "revoke", made["key_id"])
    with pytest.raises(openai.AuthenticationError):
        ask(up, made["key"])


def test_publish_roll_and_purge_move_a_channel(up: Up) -> None:
    file = str(demo_models.path("edge-small-r2"))
    published = run(up, "publish", file, f"--model={LOCAL_MODEL}", "--channel=next")
    assert published["sent_bytes"] < published["size"] / 2
    rolled = run(up, "roll", LOCAL_MODEL, f"--to={published['revision'][:8]}")
    before = rolled["previous"]
    assert rolled["revision"] == published["revision"] != before
    with OpenAI(api_key=up.ready["api_key"], base_url=f"{up.ready['edge']}/v1") as client:
        messages: Any = [{"role": "user", "content": "Hello"}]

        def digest() -> str:
            answer = client.chat.completions.with_raw_response.create(
                model=LOCAL_MODEL, messages=messages, max_tokens=1
            )
            return str(answer.headers["x-model-digest"])

        eventually(lambda: digest() == published["revision"], 60)
        assert run(up, "purge", f"channel:{LOCAL_MODEL}@stable")["hard"] is False
        run(up, "roll", f"{LOCAL_MODEL}@stable", f"--to={before[:12]}")
        eventually(lambda: digest() == before, 60)


def test_pull_brings_a_model_to_disk_and_a_second_one_finds_it_there(
    up: Up, tmp_path: Path
) -> None:
    arguments = ("pull", CLOUD_MODEL, f"--from={up.ready['edge']}", f"--to={tmp_path}")
    first = run(up, *arguments)
    assert first["from_network"] == first["size"]
    (file,) = Path(first["path"]).glob("*.gguf")
    assert file.read_bytes() == demo_models.path(CLOUD_MODEL).read_bytes()
    again = run(up, *arguments)
    assert (again["from_network"], again["from_disk"]) == (0, again["size"])


def test_chat_answers_and_says_where_from(up: Up) -> None:
    answer = run(up, "chat", "What is the capital of France?", "--temperature=0", "--max-tokens=32")
    assert answer["whole"] is True
    assert "Paris" in answer["text"]
    assert answer["route"] == f"worker; model={LOCAL_MODEL}"
    assert answer["stages_ms"]["auth"] > 0
    assert answer["usage"]["total_tokens"] > 0


def test_a_command_without_a_system_says_what_to_do(tmp_path: Path) -> None:
    code, document, notes = headwater("status", state_dir=tmp_path)
    assert code == 2
    assert "headwater up" in document["error"]["message"]
    assert "Traceback" not in notes


def test_ctrl_c_stops_everything_and_is_no_failure(up: Up) -> None:
    assert len(processes_in(up.state_dir)) >= 6, "four tiers and two engines"
    assert up.interrupt() == 0
    assert processes_in(up.state_dir) == []
    assert not up.ready_file.exists()
