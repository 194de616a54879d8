"""What the resources of linode/linode 3.x that we use take, by its documentation (docs/resources of
github.com/linode/terraform-provider-linode). ``block.argument`` is one of a nested block.

Compared by hand with the provider's schema, from which PyPI's pulumi-linode 5.5.0 and 5.14.1 are
generated (3.5.0 and 3.14.1 of the provider): 3.4 does not know ``interface_generation`` yet.
"""

from __future__ import annotations

from collections.abc import Mapping

META = frozenset({"count", "for_each", "lifecycle", "provider", "depends_on", "dynamic"})
_TEXT = {
    "linode_instance": """label region type image authorized_keys authorized_users root_pass tags
        private_ip firewall_id interface_generation placement_group placement_group.id metadata
        metadata.user_data interface interface.purpose interface.primary interface.subnet_id
        interface.ipv4 interface.ipv4.vpc interface.ipv4.nat_1_1 booted backups_enabled swap_size
        disk_encryption watchdog_enabled maintenance_policy""",
    "linode_firewall": """label disabled inbound inbound_policy outbound outbound_policy linodes
        nodebalancers tags inbound.label inbound.action inbound.protocol inbound.ports inbound.ipv4
        inbound.ipv6 outbound.label outbound.action outbound.protocol outbound.ports outbound.ipv4
        outbound.ipv6""",
    "linode_vpc": "label region description ipv6",
    "linode_vpc_subnet": "vpc_id label ipv4 ipv6",
    "linode_object_storage_bucket": """region cluster label acl access_key secret_key cors_enabled
        versioning endpoint_type s3_endpoint lifecycle_rule cert""",
    "linode_object_storage_key": """label regions bucket_access bucket_access.bucket_name
        bucket_access.region bucket_access.permissions""",
    "linode_placement_group": "label region placement_group_type placement_group_policy",
    "linode_volume": "label region size linode_id tags encryption",
    "linode_nodebalancer": "label region client_conn_throttle firewall_id tags",
    "linode_nodebalancer_config": """nodebalancer_id port protocol proxy_protocol algorithm
        stickiness check check_path check_interval check_timeout check_attempts check_passive
        cipher_suite ssl_cert ssl_key""",
    "linode_nodebalancer_node": "nodebalancer_id config_id label address mode weight",
    "linode_domain_record": "domain_id name record_type target ttl_sec priority weight port",
}
RESOURCES: Mapping[str, frozenset[str]] = {
    kind: frozenset(text.split()) for kind, text in _TEXT.items()
}
