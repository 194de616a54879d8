output "ids" {
  description = "Ids of the machines."
  value       = linode_instance.worker[*].id
}

output "ipv4" {
  description = "Public addresses, for SSH from admin_cidrs; nothing else is open there."
  value       = linode_instance.worker[*].ip_address
}
