variable "label" {
  description = "Unique label of the firewall."
  type        = string
}

variable "admin_cidrs" {
  description = "Networks that may use SSH."
  type        = list(string)
}

variable "tags" {
  description = "Tags of the firewall."
  type        = list(string)
}

variable "rules" {
  description = "What else may come in, by TCP. Everything that is not said is dropped."
  type = list(object({
    label = string
    ports = string
    ipv4  = list(string)
    ipv6  = list(string)
  }))
}
