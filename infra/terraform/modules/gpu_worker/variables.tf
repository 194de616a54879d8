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
  description = "How many workers."
  type        = number
}

variable "subnet_id" {
  description = "The region's subnet."
  type        = number
}

variable "cidr" {
  description = "Addresses of that subnet; workers have .101 and following."
  type        = string
}

variable "edge_urls" {
  description = "The region's edges: workers pull from them and report to them."
  type        = list(string)
}

variable "model" {
  description = "What they serve."
  type        = string
}

variable "variant" {
  description = "The variant of the weights; empty: the best that fits."
  type        = string
}

variable "engine_index" {
  description = "Index of the engine's wheel for CUDA; empty: the lock file's, for processors."
  type        = string
}

variable "engine_sha256" {
  description = "SHA-256 of that wheel."
  type        = string
}

variable "enrolment_url" {
  description = "Presigned URL of enrolment.tar; empty: machines wait for enrol.sh."
  type        = string
  sensitive   = true
}
