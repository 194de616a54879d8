locals {
  volume = "${var.name}-cache-${var.region}"
}

# On different hosts where there is room for that; an edge more is better than none.
resource "linode_placement_group" "edges" {
  label                  = "${var.name}-edges-${var.region}"
  region                 = var.region
  placement_group_type   = "anti_affinity:local"
  placement_group_policy = "flexible"
}

resource "linode_instance" "edge" {
  count = var.quantity

  label                = "${var.name}-edge-${var.region}-${count.index + 1}"
  region               = var.region
  type                 = var.type
  image                = var.image
  authorized_keys      = var.ssh_keys
  firewall_id          = var.firewall_id
  interface_generation = "legacy_config"
  private_ip           = var.private_ip
  tags                 = [var.name, "edge", var.region]

  interface {
    purpose = "public"
    primary = true
  }

  interface {
    purpose   = "vpc"
    subnet_id = var.subnet_id

    ipv4 {
      vpc = cidrhost(var.cidr, 11 + count.index)
    }
  }

  placement_group {
    id = linode_placement_group.edges.id
  }

  metadata {
    user_data = base64encode(templatefile("${path.module}/../../../cloud_init/edge.yaml", {
      ssh_keys       = jsonencode(var.ssh_keys)
      release_url    = var.release_url
      release_sha256 = var.release_sha256
      enrolment_url  = var.enrolment_url
      region         = var.region
      name           = "${var.region}-edge-${count.index + 1}"
      domain         = "edge-${var.region}-${count.index + 1}.${var.domain}"
      origin_url     = var.origin_url
      cache_device   = var.cache_volume_gb == 0 ? "" : "/dev/disk/by-id/scsi-0Linode_Volume_${local.volume}-${count.index + 1}"
    }))
  }

  lifecycle {
    ignore_changes = [metadata, authorized_keys, image]
  }
}

resource "linode_volume" "cache" {
  count = var.cache_volume_gb == 0 ? 0 : var.quantity

  label     = "${local.volume}-${count.index + 1}"
  region    = var.region
  size      = var.cache_volume_gb
  linode_id = linode_instance.edge[count.index].id
}
