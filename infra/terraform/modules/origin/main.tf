resource "linode_object_storage_bucket" "store" {
  region = var.bucket_region
  label  = "${var.name}-origin-store"
  acl    = "private"

  lifecycle {
    # An origin that began anew would sign version 1 again, which edges refuse as a rollback.
    prevent_destroy = true
  }
}

# Opens this bucket and nothing else.
resource "linode_object_storage_key" "store" {
  label = "${var.name}-origin-store"

  bucket_access {
    bucket_name = linode_object_storage_bucket.store.label
    region      = var.bucket_region
    permissions = "read_write"
  }
}

resource "linode_instance" "origin" {
  label                = "${var.name}-origin"
  region               = var.region
  type                 = var.type
  image                = var.image
  authorized_keys      = var.ssh_keys
  firewall_id          = var.firewall_id
  interface_generation = "legacy_config"
  tags                 = [var.name, "origin"]

  interface {
    purpose = "public"
  }

  metadata {
    user_data = base64encode(templatefile("${path.module}/../../../cloud_init/origin.yaml", {
      ssh_keys        = jsonencode(var.ssh_keys)
      release_url     = var.release_url
      release_sha256  = var.release_sha256
      domain          = var.domain
      bucket          = linode_object_storage_bucket.store.label
      bucket_endpoint = linode_object_storage_bucket.store.s3_endpoint
      bucket_region   = var.bucket_region
    }))
  }

  lifecycle {
    # Keys are on its disk: a new release is installed beside the old one, not by making it anew.
    ignore_changes = [metadata, authorized_keys, image]
  }
}
