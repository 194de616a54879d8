variable "name" {
  description = "Begins the label of everything that is made, and is its tag."
  type        = string
  default     = "headwater"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.name))
    error_message = "2 to 20 small letters, digits and dashes, a letter first."
  }
}

variable "domain" {
  description = "DNS zone of the names: origin.DOMAIN, and edge-REGION-N.DOMAIN for each edge. TLS needs them."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain))
    error_message = "A domain such as models.example.com."
  }
}

variable "domain_id" {
  description = "Id of that zone where Linode serves it; its records are made then. null: make them yourself, from the outputs."
  type        = number
  default     = null
}

variable "admin_cidrs" {
  description = "Networks that may use SSH on every machine, and HTTPS on the origin (the console, headwater publish)."
  type        = list(string)

  validation {
    condition     = length(var.admin_cidrs) > 0 && alltrue([for cidr in var.admin_cidrs : can(cidrhost(cidr, 0)) && cidr != "0.0.0.0/0"])
    error_message = "At least one IPv4 network in CIDR form, and not the whole Internet."
  }
}

variable "ssh_keys" {
  description = "Public SSH keys of the administrators; nobody logs in with a password."
  type        = list(string)

  validation {
    condition     = length(var.ssh_keys) > 0 && alltrue([for key in var.ssh_keys : can(regex("^(ssh-ed25519|ecdsa-sha2-|sk-ssh-|ssh-rsa) ?", key))])
    error_message = "At least one public key in OpenSSH's form."
  }
}

variable "release_url" {
  description = "HTTPS URL of the release: a tar.gz of this repository, as git archive makes it."
  type        = string

  validation {
    condition     = can(regex("^https://[^'\"\\\\[:space:]]+$", var.release_url))
    error_message = "An https:// URL, without quotes."
  }
}

variable "release_sha256" {
  description = "SHA-256 of that file; another one is not installed."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release_sha256))
    error_message = "64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "image" {
  description = "Image of every machine. It has Python 3.11 (the lock files are for it) and cloud-init."
  type        = string
  default     = "linode/debian12"
}

variable "origin_region" {
  description = "Where the origin runs; it must have the capability Metadata (GET /v4/regions)."
  type        = string
  default     = "us-ord"
}

variable "origin_type" {
  description = "Type of the origin's machine. It signs and announces; the bytes are in the bucket."
  type        = string
  default     = "g6-dedicated-2"
}

variable "bucket_region" {
  description = "Region of the bucket, near the origin."
  type        = string
  default     = "us-ord"
}

variable "edge_type" {
  description = "Type of the edges' machines. Their disk is the cache, unless cache_volume_gb is set."
  type        = string
  default     = "g6-dedicated-2"
}

variable "gpu_type" {
  description = "Type of the GPU machines; what a region has says GET /v4/regions/REGION/availability."
  type        = string
  default     = "g2-gpu-rtx4000a1-s"

  validation {
    condition     = can(regex("-gpu-", var.gpu_type))
    error_message = "A type with a GPU, such as g2-gpu-rtx4000a1-s."
  }
}

variable "regions" {
  description = "Regions by Linode's name: how many edges and GPU workers each has. It must have the capabilities Metadata and VPCs, and GPUs of gpu_type where gpu_workers is not 0."
  type = map(object({
    edges       = number
    gpu_workers = number
  }))

  validation {
    condition     = alltrue([for each in values(var.regions) : each.edges >= 1 && each.edges <= 50 && each.gpu_workers >= 0 && each.gpu_workers <= 100])
    error_message = "1 to 50 edges and 0 to 100 GPU workers in each region."
  }
  validation {
    condition     = try(sum([for each in values(var.regions) : each.edges]), 201) <= 200
    error_message = "At least one region, and at most 200 edges: each is an address in the origin's firewall."
  }
}

variable "model" {
  description = "What the workers pull and serve."
  type        = string
  default     = "edge-small"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$", var.model))
    error_message = "The name of a model: letters, digits, dots, dashes, underscores."
  }
}

variable "variant" {
  description = "The variant of the weights; empty: the best that fits, as headwater fit chooses it."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{0,64}$", var.variant))
    error_message = "The name of a variant, such as Q4_K_M, or empty."
  }
}

variable "engine_index" {
  description = "Index of llama.cpp's wheel for CUDA, in place of the lock file's, which is for processors; empty: that one."
  type        = string
  default     = "https://xorbitsai.github.io/xllamacpp/whl/cu128"

  validation {
    condition     = var.engine_index == "" || can(regex("^https://[^'\"\\\\[:space:]]+$", var.engine_index))
    error_message = "An https:// URL, without quotes, or empty."
  }
}

variable "engine_sha256" {
  description = "SHA-256 of that wheel; needed where engine_index is set."
  type        = string
  default     = ""

  validation {
    condition     = var.engine_sha256 == "" || can(regex("^[0-9a-f]{64}$", var.engine_sha256))
    error_message = "64 hexadecimal digits, or empty."
  }
}

variable "cache_volume_gb" {
  description = "Size of a Block Storage volume for each edge's cache, GB; 0: the machine's own disk, which is faster."
  type        = number
  default     = 0

  validation {
    condition     = var.cache_volume_gb == 0 || (var.cache_volume_gb >= 10 && var.cache_volume_gb <= 10240)
    error_message = "0, or 10 to 10240."
  }
}

variable "load_balancers" {
  description = "A NodeBalancer for each region, in front of its edges; it needs tls_certificate and tls_key."
  type        = bool
  default     = false
}

variable "tls_certificate" {
  description = "PEM certificate chain of the NodeBalancers."
  type        = string
  default     = ""
}

variable "tls_key" {
  description = "PEM private key of the NodeBalancers; it stands in the state."
  type        = string
  default     = ""
  sensitive   = true
}

variable "enrolment_urls" {
  description = "For each region: a presigned URL of its enrolment.tar (root.json and credentials), so that machines come up by themselves. A region that is left out waits for infra/cloud_init/enrol.sh. The URLs stand in state and user data: let them expire in an hour."
  type = map(object({
    edge   = string
    worker = string
  }))
  default   = {}
  sensitive = true

  validation {
    condition     = alltrue(flatten([for urls in values(var.enrolment_urls) : [for url in [urls.edge, urls.worker] : can(regex("^https://[^'\"\\\\[:space:]]+$", url))]]))
    error_message = "https:// URLs, without quotes."
  }
}
