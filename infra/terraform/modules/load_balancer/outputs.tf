output "hostname" {
  description = "Name of the NodeBalancer."
  value       = linode_nodebalancer.this.hostname
}
