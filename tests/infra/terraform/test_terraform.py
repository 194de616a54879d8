"""The Terraform that is shipped: its form by Terraform itself, its names by our own lint (the
provider, and so ``terraform validate``, is not to be had offline), and each rule of that lint by
what it must find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from infra.cloud_init.render import FOLDER as TEMPLATES
from infra.cloud_init.render import names, template
from tests.fakes.first_boot import VALUES, user_data
from tests.fakes.terraform import plain, problems, read

ROOT = TEMPLATES.parent / "terraform"
EXAMPLE = ROOT / "terraform.tfvars.example"
MODULES = {"edge": "edge", "origin": "origin", "worker": "gpu_worker"}


def terraform(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed here")
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }  # fmt: skip
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *words],
        env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_it_is_formatted() -> None:
    done = terraform("fmt", "-check", "-recursive", "-diff", folder=ROOT)
    assert done.returncode == 0, done.stdout


def test_every_name_is_declared_described_used_and_taken() -> None:
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("main.tf", "var.origin_type", "var.origin_typ", "var.origin_typ is not declared"),
        ("main.tf", "var.origin_type", '"g6-dedicated-2"', "var.origin_type is not used"),
        ("main.tf", "local.origin_domain}", "local.origin}", "local.origin is not declared"),
        ("main.tf", "cache_volume_gb = var", "cache_volume = var", "edge takes no cache_volume"),
        ("main.tf", "  model          = var.model\n", "", "gpu_worker wants model"),
        ("main.tf", "module.origin.ipv4", "module.origin.ip", "origin has no output ip"),
        ("outputs.tf", "module.origin.bucket", "module.store.bucket", "module.store is not decl"),
        (
            "outputs.tf",
            '"Where origin.DOMAIN must point."',
            '""',
            "output origin_ipv4 has no description",
        ),
        ("outputs.tf", "  sensitive   = true\n", "", "s3_credentials is not marked as sensitive"),
        ("versions.tf", "~> 3.5", ">= 3.5", "linode is not pinned"),
        ("versions.tf", '  required_version = ">= 1.9, < 2.0"\n', "", "no required_version"),
        ("variables.tf", 'default     = "edge-small"', f'default = "{"a1" * 32}"', "a secret"),
        (
            "modules/edge/main.tf",
            "placement_group_policy",
            "placement_policy",
            "linode_placement_group.edges takes no placement_policy",
        ),
        ("modules/edge/main.tf", "user_data = b", "userdata = b", "takes no metadata.userdata"),
        ("modules/edge/main.tf", "linode_instance.edge[count", "linode_instance.node[count",
         "linode_instance.node is not declared"),
        ("modules/firewall/main.tf", "ports    = inbound", "port = inbound", "no inbound.port"),
    ],
)  # fmt: skip
def test_the_lint_finds(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    broken = tmp_path / "terraform"
    shutil.copytree(ROOT, broken)
    text = (broken / file).read_text()
    assert old in text
    (broken / file).write_text(text.replace(old, new))
    found = problems(broken)
    assert any(said in line for line in found), found


def test_each_module_gives_its_template_what_it_wants() -> None:
    for tier, module in MODULES.items():
        text = (ROOT / "modules" / module / "main.tf").read_text()
        call = text.split("templatefile(")[1].split("}))")[0]
        given = set(re.findall(r"^ +([a-z0-9_]+) += ", call, re.M))
        assert given == names(template(tier)), tier


def test_nothing_but_what_is_needed_is_open_to_everybody() -> None:
    """Everybody may reach ports 80 and 443 of edges, and 80 of the origin, for certificates."""
    rules = re.findall(r'\{[^{}]*ports *= "([^"]+)"[^{}]*\}', (ROOT / "main.tf").read_text())
    opened = re.findall(
        r'ports *= "([^"]+)", ipv4 *= \["0\.0\.0\.0/0"\]', (ROOT / "main.tf").read_text()
    )
    assert sorted(opened) == ["80", "80, 443"]
    assert {"7401", "7402", "7411-7412"} <= set(rules)
    inbound = (ROOT / "modules/firewall/main.tf").read_text()
    assert 'inbound_policy  = "DROP"' in inbound
    assert "var.admin_cidrs" in inbound


def test_the_example_says_what_has_no_default_and_nothing_unknown() -> None:
    given = plain(hcl2.loads(EXAMPLE.read_text()))
    variables = read(ROOT).variables
    assert set(given) <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= set(given)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variables alone, and the templates of first boot as outputs: what needs no provider."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(ROOT / "variables.tf", folder)
    outputs = [
        f'output "{tier}" {{\n  value = templatefile("{TEMPLATES}/{tier}.yaml", '
        f"{json.dumps({name: VALUES[tier].get(name, '') for name in names(template(tier))})})\n}}\n"
        for tier in MODULES
    ]
    (folder / "outputs.tf").write_text("".join(outputs))
    done = terraform("init", "-backend=false", "-input=false", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_terraform_renders_the_templates_as_we_do(bare: Path) -> None:
    done = terraform("plan", "-input=false", f"-var-file={EXAMPLE}", "-out=p", folder=bare)
    assert done.returncode == 0, done.stderr
    shown = json.loads(terraform("show", "-json", "p", folder=bare).stdout)
    made = {name: output["value"] for name, output in shown["planned_values"]["outputs"].items()}
    assert made == {tier: user_data(tier) for tier in MODULES}


def test_terraform_refuses_values_that_cannot_be(bare: Path) -> None:
    wrong = {
        "name": "Headwater",
        "domain": "example",
        "admin_cidrs": ["0.0.0.0/0"],
        "ssh_keys": [],
        "release_url": "http://example.com/r.tar.gz",
        "release_sha256": "abc",
        "gpu_type": "g6-dedicated-2",
        "cache_volume_gb": 5,
        "engine_sha256": "abc",
        "regions": {},
        "model": "a'b",
        "variant": 'a"b',
        "engine_index": "https://a'; true '",
        "enrolment_urls": {"us-ord": {"edge": "https://a", "worker": "http://b"}},
    }
    file = bare / "wrong.tfvars.json"
    file.write_text(json.dumps(wrong))
    done = terraform(
        "plan", "-input=false", f"-var-file={EXAMPLE}", f"-var-file={file}", "-no-color",
        folder=bare,
    )  # fmt: skip
    assert done.returncode == 1
    for name in wrong:
        assert f"var.{name}" in done.stderr, name
