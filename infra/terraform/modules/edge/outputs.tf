output "ids" {
  description = "Ids of the machines."
  value       = linode_instance.edge[*].id
}

output "ipv4" {
  description = "Public addresses."
  value       = linode_instance.edge[*].ip_address
}

output "names" {
  description = "Public name → the address that it must point to."
  value       = { for index, edge in linode_instance.edge : "edge-${var.region}-${index + 1}.${var.domain}" => edge.ip_address }
}

output "private_urls" {
  description = "Where the region's workers reach each process of the edges."
  value = flatten([
    for index in range(var.quantity) : [
      for port in [7411, 7412] : "http://${cidrhost(var.cidr, 11 + index)}:${port}"
    ]
  ])
}

output "balanced" {
  description = "Label and address of each edge, for a NodeBalancer."
  value       = [for edge in linode_instance.edge : { label = edge.label, address = edge.private_ip_address }]
}
