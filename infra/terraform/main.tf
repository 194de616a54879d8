locals {
  origin_domain = "origin.${var.domain}"
  edge_firewall_rules = concat(
    [
      { label = "https", ports = "80, 443", ipv4 = ["0.0.0.0/0"], ipv6 = ["::/0"] },
      { label = "workers", ports = "7411-7412", ipv4 = [module.network[keys(var.regions)[0]].cidr], ipv6 = [] },
    ],
    # Where NodeBalancers call from.
    var.load_balancers ? [{ label = "load-balancers", ports = "7401", ipv4 = ["192.168.255.0/24"], ipv6 = [] }] : [],
  )
}

# Edges and workers of a region talk in a network that nobody else is in: between them there is no TLS.
module "network" {
  source   = "./modules/network"
  for_each = var.regions

  name   = var.name
  region = each.key
}

module "origin_firewall" {
  source = "./modules/firewall"

  label       = "${var.name}-origin"
  admin_cidrs = var.admin_cidrs
  tags        = [var.name]
  rules = [
    # For the certificate alone; everything else is answered with a redirection.
    { label = "acme", ports = "80", ipv4 = ["0.0.0.0/0"], ipv6 = ["::/0"] },
    {
      label = "https"
      ports = "443"
      ipv4  = concat(var.admin_cidrs, [for address in flatten([for edge in module.edge : edge.ipv4]) : "${address}/32"])
      ipv6  = []
    },
  ]
}

module "edge_firewall" {
  source = "./modules/firewall"

  label       = "${var.name}-edge"
  admin_cidrs = var.admin_cidrs
  tags        = [var.name]
  rules       = local.edge_firewall_rules
}

module "worker_firewall" {
  source = "./modules/firewall"

  label       = "${var.name}-worker"
  admin_cidrs = var.admin_cidrs
  tags        = [var.name]
  rules = [
    { label = "edges", ports = "7402", ipv4 = [module.network[keys(var.regions)[0]].cidr], ipv6 = [] },
  ]
}

module "origin" {
  source = "./modules/origin"

  name           = var.name
  region         = var.origin_region
  bucket_region  = var.bucket_region
  type           = var.origin_type
  image          = var.image
  ssh_keys       = var.ssh_keys
  firewall_id    = module.origin_firewall.id
  domain         = local.origin_domain
  release_url    = var.release_url
  release_sha256 = var.release_sha256
}

module "edge" {
  source   = "./modules/edge"
  for_each = var.regions

  name            = var.name
  region          = each.key
  quantity        = each.value.edges
  type            = var.edge_type
  image           = var.image
  ssh_keys        = var.ssh_keys
  firewall_id     = module.edge_firewall.id
  subnet_id       = module.network[each.key].subnet_id
  cidr            = module.network[each.key].cidr
  domain          = var.domain
  origin_url      = "https://${local.origin_domain}"
  cache_volume_gb = var.cache_volume_gb
  private_ip      = var.load_balancers
  release_url     = var.release_url
  release_sha256  = var.release_sha256
  enrolment_url   = try(var.enrolment_urls[each.key].edge, "")
}

module "gpu_worker" {
  source   = "./modules/gpu_worker"
  for_each = var.regions

  name           = var.name
  region         = each.key
  quantity       = each.value.gpu_workers
  type           = var.gpu_type
  image          = var.image
  ssh_keys       = var.ssh_keys
  firewall_id    = module.worker_firewall.id
  subnet_id      = module.network[each.key].subnet_id
  cidr           = module.network[each.key].cidr
  edge_urls      = module.edge[each.key].private_urls
  model          = var.model
  variant        = var.variant
  engine_index   = var.engine_index
  engine_sha256  = var.engine_sha256
  release_url    = var.release_url
  release_sha256 = var.release_sha256
  enrolment_url  = try(var.enrolment_urls[each.key].worker, "")
}

module "load_balancer" {
  source   = "./modules/load_balancer"
  for_each = var.load_balancers ? var.regions : {}

  name            = var.name
  region          = each.key
  edges           = module.edge[each.key].balanced
  tls_certificate = var.tls_certificate
  tls_key         = var.tls_key
}

resource "linode_domain_record" "origin" {
  count = var.domain_id == null ? 0 : 1

  domain_id   = var.domain_id
  name        = "origin"
  record_type = "A"
  target      = module.origin.ipv4
  ttl_sec     = 300
}

resource "linode_domain_record" "edge" {
  for_each = var.domain_id == null ? {} : merge([for edge in module.edge : edge.names]...)

  domain_id   = var.domain_id
  name        = trimsuffix(each.key, ".${var.domain}")
  record_type = "A"
  target      = each.value
  ttl_sec     = 300
}
