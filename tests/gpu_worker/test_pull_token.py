"""What a worker shows to those that it pulls from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from gpu_worker.app import build_app
from gpu_worker.config import WorkerConfig
from tests.fakes.revisions import SignedSource
from tests.fakes.tier import stub_tier
from tests.fakes.waiting import until
from wire.files import write_atomically


@pytest.mark.parametrize("shown", ["worker-secret", "hf_pull"])
async def test_sources_are_shown_the_pull_token_or_the_workers_own(
    tmp_path: Path, shown: str
) -> None:
    write_atomically(tmp_path / "worker", b"worker-secret")
    write_atomically(tmp_path / "pull", b"hf_pull")
    (tmp_path / "root.json").write_bytes(SignedSource().root)
    with stub_tier({}) as tier:
        config = WorkerConfig(
            sources=(tier.url,),
            trust_root=tmp_path / "root.json",
            trust_dir=tmp_path / "trust",
            models_dir=tmp_path / "models",
            token_file=tmp_path / "worker",
            pull_token_file=tmp_path / "pull" if shown == "hf_pull" else None,
        )

        def asked_for_trust() -> list[Any]:
            return [r for r in tier.received if r.path == "/artifacts/trust/bundle"]

        async with TestServer(await build_app(config)):
            await until(lambda: bool(asked_for_trust()))
        assert asked_for_trust()[0].headers["authorization"] == f"Bearer {shown}"
