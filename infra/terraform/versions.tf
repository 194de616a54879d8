terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    linode = {
      source  = "linode/linode"
      version = "~> 3.5"
    }
  }
}

# The token is taken from LINODE_TOKEN, so that it stands in no file.
provider "linode" {}
