output "subnet_id" {
  description = "The subnet of the region's edges and workers."
  value       = linode_vpc_subnet.this.id
}

output "cidr" {
  description = "Its addresses: edges from .11, workers from .101."
  value       = var.cidr
}
