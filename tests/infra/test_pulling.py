"""The way down from the command line, against a real origin in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gpu_worker.errors import VariantUnknownError
from infra import demo_models
from infra.cli import app
from infra.local import Local
from infra.pulling import pull_model
from tests.fakes.waiting import until_async
from wire.errors import NotFoundError, TrustError

R1, R2 = (str(demo_models.path(name)) for name in ("edge-small-r1", "edge-small-r2"))


@pytest.fixture
async def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Local]:
    """A launcher whose origin runs; the command finds it by its state directory."""
    async with Local(tmp_path / "state") as started:
        await started.start("origin")
        await started.ready("origin")
        started.urls = started.urls.knowing("edge", started.urls.origin)
        started.announce()
        monkeypatch.setenv("HEADWATER_STATE_DIR", str(started.state.root))
        yield started


async def run(*arguments: str) -> Any:
    """The document that a command prints; the loop goes on, because the launcher needs it."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


async def test_a_model_goes_down_and_a_new_revision_costs_what_changed(
    local: Local, tmp_path: Path
) -> None:
    models, source = tmp_path / "models", local.urls.origin
    first = await run("publish", R1, "--model", "chat")
    assert first["tokenizer"] == "exact"
    assert first["parity"]
    assert first["golden"]
    pulled = await run("pull", "chat", "--from", source, "--to", str(models))
    assert pulled["revision"] == first["revision"]
    assert pulled["from_network"] == first["size"]

    second = await run("publish", R2, "--model", "chat", "--channel", "next", "--no-parity")
    assert second["sent_bytes"] < second["size"] / 2
    assert not second["golden"]
    rolled = await run("roll", "chat", "--to", second["revision"][:10], "--watch")
    assert rolled["previous"] == first["revision"]
    again = await run("pull", "chat", "--from", source, "--to", str(models))
    assert again["revision"] == second["revision"]
    assert again["from_network"] == second["sent_bytes"]
    assert again["from_seeds"] == second["size"] - second["sent_bytes"]


async def test_what_is_there_is_not_fetched_again(local: Local, tmp_path: Path) -> None:
    await run("publish", R1, "--model", "chat", "--no-parity")
    arguments = ("pull", "chat", "--from", local.urls.origin, "--to", str(tmp_path / "models"))
    await run(*arguments)
    again = await run(*arguments)
    assert again["from_network"] == 0
    assert again["from_disk"] == again["size"]


async def test_only_what_the_publisher_signed_is_pulled(local: Local, tmp_path: Path) -> None:
    source, models = local.urls.origin, tmp_path / "models"
    with pytest.raises(NotFoundError, match="nothing@stable"):
        await pull_model("nothing", "stable", [source], models, local.state.trust_root)
    async with Local(tmp_path / "other") as other:
        with pytest.raises(TrustError):
            await pull_model("chat", "stable", [source], tmp_path / "m", other.state.trust_root)


async def test_a_tier_runs_in_the_commands_own_process(local: Local) -> None:
    command = [sys.executable, "-m", "infra.cli", "origin", "--port", "0", "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, "--config", str(local.state.config_file), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    announced = await process.stdout.readuntil(b"}\n")
    assert json.loads(announced)["pid"] == process.pid
    process.send_signal(signal.SIGTERM)
    rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"")


async def test_one_variant_of_several_is_pulled(local: Local, tmp_path: Path) -> None:
    source, root = [local.urls.origin], local.state.trust_root
    made = await run("publish", R1, "--model", "chat", "--quant", "Q4_0,Q8_0", "--no-parity")
    assert made["variants"] == ["Q4_0", "Q8_0"]
    best = await pull_model("chat", "stable", source, tmp_path / "a", root)
    named = await pull_model("chat", "stable", source, tmp_path / "b", root, variant="Q4_0")
    assert [p.as_dict()["variant"] for p in (best, named)] == ["Q8_0", "Q4_0"]
    for pulled in (best, named):
        assert [p.stem[-4:] for p in pulled.report.path.glob("*.gguf")] == [pulled.report.variant]
    with pytest.raises(VariantUnknownError, match="there is Q4_0, Q8_0"):
        await pull_model("chat", "stable", source, tmp_path / "c", root, variant="Q9")


async def test_a_private_model_needs_a_pull_token(local: Local, tmp_path: Path) -> None:
    published = await run("publish", R1, "--model", "chat", "--private", "--no-parity")
    arguments = ("pull", "chat", "--from", local.urls.origin, "--to", str(tmp_path / "models"))
    refused = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert refused.exit_code == 1
    assert "pull token" in json.loads(refused.stdout)["error"]["message"]
    made = await run("tokens", "create", "--model", "ch*", "--tier", "origin")
    file = tmp_path / "token"
    file.write_text(made["token"])
    file.chmod(0o600)

    async def opened() -> bool:
        status = await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, f"--token-file={file}"]
        )
        return status.exit_code == 0

    await until_async(opened)
    again = await run(*arguments, f"--token-file={file}")
    assert again["revision"] == published["revision"]
