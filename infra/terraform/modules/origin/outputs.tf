output "id" {
  description = "Id of the machine."
  value       = linode_instance.origin.id
}

output "ipv4" {
  description = "Public address."
  value       = linode_instance.origin.ip_address
}

output "bucket" {
  description = "The store, as the origin's configuration has it."
  value       = "s3://${linode_object_storage_bucket.store.label}/store"
}

output "s3_credentials" {
  description = "The bucket's keys in the form of ~/.aws/credentials."
  value       = "[default]\naws_access_key_id = ${linode_object_storage_key.store.access_key}\naws_secret_access_key = ${linode_object_storage_key.store.secret_key}\n"
  sensitive   = true
}
