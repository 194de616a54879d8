output "id" {
  description = "Given to machines when they are made, so that they are never without it."
  value       = linode_firewall.this.id
}
