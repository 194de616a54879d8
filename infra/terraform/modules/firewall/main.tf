resource "linode_firewall" "this" {
  label           = var.label
  tags            = var.tags
  inbound_policy  = "DROP"
  outbound_policy = "ACCEPT"

  inbound {
    label    = "ssh"
    action   = "ACCEPT"
    protocol = "TCP"
    ports    = "22"
    ipv4     = var.admin_cidrs
  }

  dynamic "inbound" {
    for_each = var.rules

    content {
      label    = inbound.value.label
      action   = "ACCEPT"
      protocol = "TCP"
      ports    = inbound.value.ports
      ipv4     = inbound.value.ipv4
      ipv6     = inbound.value.ipv6
    }
  }
}
