variable "name" {
  description = "Begins the label."
  type        = string
}

variable "region" {
  description = "The region of the edges."
  type        = string
}

variable "edges" {
  description = "Label and private address of each edge."
  type = list(object({
    label   = string
    address = string
  }))
}

variable "tls_certificate" {
  description = "PEM certificate chain."
  type        = string
}

variable "tls_key" {
  description = "PEM private key."
  type        = string
  sensitive   = true
}
