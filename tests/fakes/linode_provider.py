"""What the resources of linode/linode 3.x that we use take, by its documentation (docs/resources of
github.com/linode/terraform-provider-linode). ``block.argument`` is an argument of a nested block."""

from __future__ import annotations

from collections.abc import Mapping

META = frozenset({"count", "for_each", "lifecycle", "provider", "depends_on", "dynamic"})
RULE = ("label", "action", "protocol", "ports", "ipv4", "ipv6")
RESOURCES: Mapping[str, frozenset[str]] = {
    "linode_instance": frozenset(
        "label region type image authorized_keys authorized_users root_pass tags private_ip "
        "firewall_id interface_generation placement_group placement_group.id metadata "
        "metadata.user_data interface interface.purpose interface.primary interface.subnet_id "
        "interface.ipv4 interface.ipv4.vpc interface.ipv4.nat_1_1 booted backups_enabled swap_size "
        "disk_encryption watchdog_enabled maintenance_policy".split()
    ),
    "linode_firewall": frozenset(
        ["label", "disabled", "inbound", "inbound_policy", "outbound", "outbound_policy"]
        + ["linodes", "nodebalancers", "tags"]
        + [f"{way}.{name}" for way in ("inbound", "outbound") for name in RULE]
    ),
    "linode_vpc": frozenset({"label", "region", "description", "ipv6"}),
    "linode_vpc_subnet": frozenset({"vpc_id", "label", "ipv4", "ipv6"}),
    "linode_object_storage_bucket": frozenset(
        "region cluster label acl access_key secret_key cors_enabled versioning endpoint_type "
        "s3_endpoint lifecycle_rule cert".split()
    ),
    "linode_object_storage_key": frozenset(
        "label regions bucket_access bucket_access.bucket_name bucket_access.region "
        "bucket_access.permissions".split()
    ),
    "linode_placement_group": frozenset(
        {"label", "region", "placement_group_type", "placement_group_policy"}
    ),
    "linode_volume": frozenset({"label", "region", "size", "linode_id", "tags", "encryption"}),
    "linode_nodebalancer": frozenset(
        {"label", "region", "client_conn_throttle", "firewall_id", "tags"}
    ),
    "linode_nodebalancer_config": frozenset(
        "nodebalancer_id port protocol proxy_protocol algorithm stickiness check check_path "
        "check_interval check_timeout check_attempts check_passive cipher_suite ssl_cert "
        "ssl_key".split()
    ),
    "linode_nodebalancer_node": frozenset(
        {"nodebalancer_id", "config_id", "label", "address", "mode", "weight"}
    ),
    "linode_domain_record": frozenset(
        {"domain_id", "name", "record_type", "target", "ttl_sec", "priority", "weight", "port"}
    ),
}
