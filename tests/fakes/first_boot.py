"""Values for the templates of first boot, as an operator would give them."""

from __future__ import annotations

import json

from infra.cloud_init.render import render, template

_COMMON = {
    "ssh_keys": json.dumps(["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ops@example.com"]),
    "release_url": "https://downloads.example.com/headwater-0.1.0.tar.gz",
    "release_sha256": "0" * 64,
}
VALUES = {
    "origin": {
        **_COMMON,
        "domain": "origin.models.example.com",
        "bucket": "headwater-origin-store",
        "bucket_endpoint": "us-ord-10.linodeobjects.com",
        "bucket_region": "us-ord",
    },
    "edge": {
        **_COMMON,
        "region": "us-ord",
        "name": "us-ord-edge-1",
        "domain": "edge-us-ord-1.models.example.com",
        "origin_url": "https://origin.models.example.com",
    },
    "worker": {
        **_COMMON,
        "name": "us-ord-worker-1",
        "edge_urls": json.dumps(["http://10.0.0.11:7401", "http://10.0.0.12:7401"]),
        "advertise_url": "http://10.0.0.101:7402",
        "model": "edge-small",
    },
}


def user_data(tier: str) -> str:
    """The user data of a tier's machine."""
    return render(template(tier), VALUES[tier])
