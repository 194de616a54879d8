resource "linode_instance" "worker" {
  count = var.quantity

  label                = "${var.name}-worker-${var.region}-${count.index + 1}"
  region               = var.region
  type                 = var.type
  image                = var.image
  authorized_keys      = var.ssh_keys
  firewall_id          = var.firewall_id
  interface_generation = "legacy_config"
  tags                 = [var.name, "worker", var.region]

  interface {
    purpose = "public"
    primary = true
  }

  interface {
    purpose   = "vpc"
    subnet_id = var.subnet_id

    ipv4 {
      vpc = cidrhost(var.cidr, 101 + count.index)
    }
  }

  metadata {
    user_data = base64encode(templatefile("${path.module}/../../../cloud_init/worker.yaml", {
      ssh_keys       = jsonencode(var.ssh_keys)
      release_url    = var.release_url
      release_sha256 = var.release_sha256
      enrolment_url  = var.enrolment_url
      name           = "${var.region}-worker-${count.index + 1}"
      edge_urls      = jsonencode(var.edge_urls)
      advertise_url  = "http://${cidrhost(var.cidr, 101 + count.index)}:7402"
      model          = var.model
      variant        = var.variant
      engine_index   = var.engine_index
      engine_sha256  = var.engine_sha256
    }))
  }

  lifecycle {
    ignore_changes = [metadata, authorized_keys, image]

    precondition {
      condition     = var.engine_index == "" || var.engine_sha256 != ""
      error_message = "engine_index is set: give engine_sha256, the SHA-256 of the wheel there, or set engine_index = \"\"."
    }
  }
}
