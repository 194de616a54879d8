resource "linode_vpc" "this" {
  label  = "${var.name}-${var.region}"
  region = var.region
}

resource "linode_vpc_subnet" "this" {
  vpc_id = linode_vpc.this.id
  label  = "tiers"
  ipv4   = var.cidr
}
