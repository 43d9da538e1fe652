# An Atlas project for lkmongo: a cluster, from where it can be reached, and a database user for each process (users.tf).
# The search indexes are in search-indexes/: they need the collections, which `lkmongo db indexes --no-search` creates in
# between. ../provision-atlas.yml runs all of it in order.
#
# A service account of the organization does it, with the role Organization Project Creator; its credentials are in
# MONGODB_ATLAS_CLIENT_ID and MONGODB_ATLAS_CLIENT_SECRET.

terraform {
  required_version = ">= 1.11" # for passwords that are in no state
  required_providers {
    mongodbatlas = {
      source  = "mongodb/mongodbatlas"
      version = "~> 2.16"
    }
  }

  # The state must outlive the runner. Any other backend does as well.
  backend "s3" {
    key          = "lkmongo/atlas.tfstate"
    use_lockfile = true
  }
}

variable "org_id" {
  description = "Id of the Atlas organization"
  type        = string
}

variable "name" {
  description = "Name of the project and of its cluster"
  type        = string
  default     = "lkmongo"
}

variable "database" {
  description = "The database, lkmongo's MONGODB_DB"
  type        = string
  default     = "lkmongo"
}

variable "region" {
  description = "Where the cluster is, as near to the agents as possible"
  type        = string
  default     = "EU_CENTRAL_1"
}

variable "instance_size" {
  description = "Size of each of the three nodes"
  type        = string
  default     = "M10"
}

variable "access_list" {
  description = "From where agents and web servers connect: CIDR blocks, each with what it is"
  type        = map(string)

  validation {
    condition     = !contains(keys(var.access_list), "0.0.0.0/0")
    error_message = "0.0.0.0/0 lets the whole internet try its luck: name the addresses that your machines leave from."
  }
}

resource "mongodbatlas_project" "this" {
  name   = var.name
  org_id = var.org_id
}

resource "mongodbatlas_advanced_cluster" "this" {
  project_id                     = mongodbatlas_project.this.id
  name                           = var.name
  cluster_type                   = "REPLICASET"
  mongo_db_major_version         = "8.0"
  backup_enabled                 = true
  termination_protection_enabled = true

  replication_specs = [
    {
      region_configs = [
        {
          provider_name = "AWS"
          region_name   = var.region
          priority      = 7
          electable_specs = {
            instance_size = var.instance_size
            node_count    = 3
          }
        },
      ]
    },
  ]
}

# Runners of GitHub have no address of their own; the workflow lets in the one that it runs on, for an hour.
resource "mongodbatlas_project_ip_access_list" "this" {
  for_each = var.access_list

  project_id = mongodbatlas_project.this.id
  cidr_block = each.key
  comment    = each.value
}

output "project_id" {
  value = mongodbatlas_project.this.id
}

output "cluster_name" {
  value = mongodbatlas_advanced_cluster.this.name
}

output "host" {
  description = "For MONGODB_URI: mongodb+srv://lkmongo-worker:PASSWORD@HOST"
  value       = trimprefix(mongodbatlas_advanced_cluster.this.connection_strings.standard_srv, "mongodb+srv://")
}
