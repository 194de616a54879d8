variable "name" {
  description = "Begins the labels, and is the tag."
  type        = string
}

variable "region" {
  description = "Where the machines run."
  type        = string
}

variable "type" {
  description = "Type of the machines."
  type        = string
}

variable "image" {
  description = "Image of the machines, with cloud-init."
  type        = string
}

variable "ssh_keys" {
  description = "Public SSH keys of the administrators."
  type        = list(string)
}

variable "firewall_id" {
  description = "Firewall in front of the machines."
  type        = number
}

variable "release_url" {
  description = "URL of the release."
  type        = string
}

variable "release_sha256" {
  description = "SHA-256 of the release."
  type        = string
}

variable "bucket_region" {
  description = "Region of the bucket."
  type        = string
}

variable "domain" {
  description = "Public name of the origin."
  type        = string
}
