resource "linode_nodebalancer" "this" {
  label  = "${var.name}-${var.region}"
  region = var.region
}

resource "linode_nodebalancer_config" "https" {
  nodebalancer_id = linode_nodebalancer.this.id
  port            = 443
  protocol        = "https"
  algorithm       = "leastconn"
  stickiness      = "none"
  ssl_cert        = var.tls_certificate
  ssl_key         = var.tls_key

  # An edge that is draining says no there before it stops.
  check          = "http"
  check_path     = "/readyz"
  check_interval = 5
  check_timeout  = 3
  check_attempts = 2

  lifecycle {
    precondition {
      condition     = var.tls_certificate != "" && var.tls_key != ""
      error_message = "load_balancers is on: give tls_certificate and tls_key."
    }
  }
}

resource "linode_nodebalancer_node" "edge" {
  count = length(var.edges)

  nodebalancer_id = linode_nodebalancer.this.id
  config_id       = linode_nodebalancer_config.https.id
  label           = var.edges[count.index].label
  address         = "${var.edges[count.index].address}:7401"
}
