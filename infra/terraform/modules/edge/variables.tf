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

variable "quantity" {
  description = "How many edges."
  type        = number
}

variable "subnet_id" {
  description = "The region's subnet."
  type        = number
}

variable "cidr" {
  description = "Addresses of that subnet; edges have .11 and following."
  type        = string
}

variable "domain" {
  description = "Zone of the edges' public names."
  type        = string
}

variable "origin_url" {
  description = "Where misses go."
  type        = string
}

variable "cache_volume_gb" {
  description = "Size of a volume for the cache; 0: none."
  type        = number
}

variable "private_ip" {
  description = "Whether a NodeBalancer reaches the edges, by an address of the region's shared private network."
  type        = bool
}

variable "enrolment_url" {
  description = "Presigned URL of enrolment.tar; empty: machines wait for enrol.sh."
  type        = string
  sensitive   = true
}
