"""``hf download`` and ``snapshot_download``, versions 1 and 2, against an origin and an edge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.facades import StockTiers, make_model, stock_tiers, weights_of
from tests.fakes.revisions import Revision
from tests.fakes.stock_clients import Hf, client_folder, relay
from wire.catalog import commit_of

PUBLIC = make_model("chat", variants=("Q8_0", "Q4_K_M"), extra={"docs/how to/use.txt": b"So.\n"})
PRIVATE = make_model("secret", seed=1)
SNAPSHOT = """
import sys, tempfile
from huggingface_hub import snapshot_download
for revision in sys.argv[2:]:
    folder = tempfile.mkdtemp()
    print(snapshot_download(sys.argv[1], revision=revision or None, cache_dir=folder, token=False))
"""
REFUSED = """
import sys, json
from huggingface_hub import hf_hub_download
for repository, file, revision, token in json.loads(sys.argv[1]):
    try:
        hf_hub_download(repository, file, revision=revision, token=token)
    except Exception as error:
        print(type(error).__name__, error.response.status_code)
"""
LOOK = """
import sys, json
from huggingface_hub import HfApi
api = HfApi()
info = api.model_info(sys.argv[1], files_metadata=True)
refs = api.list_repo_refs(sys.argv[1])
tree = list(api.list_repo_tree(sys.argv[1], recursive=True))
print(json.dumps({
    "sha": info.sha,
    "sizes": {s.rfilename: [s.size, s.lfs.sha256] for s in info.siblings},
    "branches": {b.name: b.target_commit for b in refs.branches},
    "tree": sorted(entry.path for entry in tree),
}))
"""


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockTiers]:
    with stock_tiers(tmp_path_factory.mktemp("tiers")) as tiers:
        tiers.publish(PUBLIC)
        tiers.publish(PRIVATE, private=True)
        yield tiers


@pytest.fixture(scope="module", params=["hf1", "hf2"])
def beside(request: pytest.FixtureRequest) -> Path | None:
    """Where the version's package is; the second is the environment's own."""
    return client_folder("hf1") if request.param == "hf1" else None


@pytest.fixture(params=["origin", "edge"])
def endpoint(request: pytest.FixtureRequest, tiers: StockTiers) -> str:
    return tiers.origin_url if request.param == "origin" else tiers.edge_url


@pytest.fixture
def hf(tmp_path: Path, endpoint: str, beside: Path | None) -> Hf:
    return Hf(tmp_path, endpoint, beside)


def files_in(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def printed_path(out: str) -> Path:
    """What ``hf download`` says last."""
    return Path(out.strip().splitlines()[-1].rpartition(": ")[2])


def test_hf_download_brings_every_file_of_a_model(hf: Hf) -> None:
    ran = hf("download", "headwater/chat")
    assert ran.code == 0, ran.said
    folder = printed_path(ran.out)
    assert folder.name == commit_of(PUBLIC.id)
    assert files_in(folder) == PUBLIC.files


def test_hf_download_brings_one_file_to_a_folder(hf: Hf, tmp_path: Path) -> None:
    name, data = weights_of(PUBLIC)
    ran = hf("download", "chat", name, "--local-dir", str(tmp_path / "here"))
    assert ran.code == 0, ran.said
    assert (tmp_path / "here" / name).read_bytes() == data


def test_snapshot_download_takes_a_channel_or_a_commit(hf: Hf) -> None:
    ran = hf.python(SNAPSHOT, "headwater/chat", "", "stable", commit_of(PUBLIC.id))
    assert ran.code == 0, ran.said
    folders = ran.out.split()
    assert len(folders) == 3
    assert all(files_in(Path(folder)) == PUBLIC.files for folder in folders)


def test_a_private_model_needs_a_pull_token_that_names_it(hf: Hf, tiers: StockTiers) -> None:
    refused = hf("download", "headwater/secret")
    assert refused.code != 0
    assert "not found" in refused.said.lower()
    opened = hf("download", "headwater/secret", HF_TOKEN=tiers.token("sec*"))
    assert opened.code == 0, opened.said
    assert files_in(printed_path(opened.out)) == PRIVATE.files


def test_a_token_of_somebody_else_does_not_close_what_is_public(hf: Hf) -> None:
    name, _ = weights_of(PUBLIC)
    ran = hf("download", "headwater/chat", name, HF_TOKEN="hf_" + "x" * 34)
    assert ran.code == 0, ran.said


REFUSALS: list[tuple[str, str, str, tuple[str, ...], str]] = [
    ("headwater/chat", "none.gguf", "main", (), "RemoteEntryNotFoundError 404"),
    ("headwater/chat", "chat.gguf", "v9", (), "RevisionNotFoundError 404"),
    ("headwater/none", "a", "main", (), "RepositoryNotFoundError 401"),
    ("headwater/secret", "a", "main", (), "RepositoryNotFoundError 401"),
    ("elsewhere/chat", "a", "main", (), "RepositoryNotFoundError 401"),
    ("headwater/secret", "a", "main", ("other",), "GatedRepoError 403"),
    ("headwater/none", "a", "main", ("other",), "GatedRepoError 403"),
    ("headwater/none", "a", "main", ("*",), "RepositoryNotFoundError 404"),
    ("headwater/secret", "none", "main", ("*",), "RemoteEntryNotFoundError 404"),
]


def test_the_client_knows_every_refusal(hf: Hf, tiers: StockTiers) -> None:
    tokens: dict[tuple[str, ...], str] = {
        models: tiers.token(*models) for models in (("other",), ("*",))
    }
    cases = [[*case[:3], tokens.get(case[3], False)] for case in REFUSALS]
    ran = hf.python(REFUSED, json.dumps(cases))
    assert ran.out.splitlines() == [case[4] for case in REFUSALS], ran.said


def test_the_api_shows_what_the_manifest_says(hf: Hf) -> None:
    ran = hf.python(LOOK, "headwater/chat")
    assert ran.code == 0, ran.said
    seen = json.loads(ran.out)
    commit = commit_of(PUBLIC.id)
    assert seen["sha"] == commit
    assert seen["branches"] == {"main": commit, "stable": commit}
    assert seen["sizes"] == {e.path: [e.size, e.sha256] for e in PUBLIC.manifest.files}
    assert set(seen["tree"]) == {*PUBLIC.files, "docs", "docs/how to"}


@pytest.fixture
def rolled(tiers: StockTiers) -> tuple[Revision, Revision]:
    """A large model, published, and the revision that is to follow it."""
    old, new = (make_model("large", seed=seed, size=6_000_000) for seed in (2, 3))
    tiers.publish(old)
    return old, new


def test_a_download_under_way_stays_on_its_revision_through_a_roll(
    hf: Hf, tiers: StockTiers, rolled: tuple[Revision, Revision]
) -> None:
    old, new = rolled
    with relay(hf.endpoint, free_bytes=1_000_000) as slow, ThreadPoolExecutor(1) as pool:
        held = Hf(hf.home, slow.url, hf.beside)
        running = pool.submit(held, "download", "headwater/large")
        assert slow.held.wait(30)
        tiers.publish(new)
        slow.gate.set()
        ran = running.result()
    assert ran.code == 0, ran.said
    assert files_in(printed_path(ran.out)) == old.files
    after = hf("download", "headwater/large")
    assert files_in(printed_path(after.out)) == new.files
