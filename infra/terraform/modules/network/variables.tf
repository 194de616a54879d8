variable "name" {
  description = "Begins the labels."
  type        = string
}

variable "region" {
  description = "A region with the capability VPCs."
  type        = string
}

variable "cidr" {
  description = "The subnet. Regions are networks of their own, so it may be the same everywhere."
  type        = string
  default     = "10.0.0.0/24"
}
