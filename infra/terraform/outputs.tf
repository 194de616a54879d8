output "origin_url" {
  description = "The origin, and its console below /console."
  value       = "https://${local.origin_domain}"
}

output "origin_ipv4" {
  description = "Where origin.DOMAIN must point."
  value       = module.origin.ipv4
}

output "bucket" {
  description = "The origin's store."
  value       = module.origin.bucket
}

output "s3_credentials" {
  description = "The bucket's keys in the form of ~/.aws/credentials, for the origin's enrolment."
  value       = module.origin.s3_credentials
  sensitive   = true
}

output "edges" {
  description = "Public name of each edge and the address that it must point to, by region."
  value       = { for region, edge in module.edge : region => edge.names }
}

output "workers" {
  description = "Address for SSH of each GPU worker, by region."
  value       = { for region, worker in module.gpu_worker : region => worker.ipv4 }
}

output "load_balancers" {
  description = "Host name of each region's NodeBalancer; make your own name point there."
  value       = { for region, balancer in module.load_balancer : region => balancer.hostname }
}

output "ids" {
  description = "Ids of all machines, for linode-cli."
  value = {
    origin  = [module.origin.id]
    edges   = flatten([for edge in module.edge : edge.ids])
    workers = flatten([for worker in module.gpu_worker : worker.ids])
  }
}
