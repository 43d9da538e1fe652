# A database user for each process, with a role that allows what this process does and no more. Each is named as its
# role: lkmongo-web, lkmongo-worker, lkmongo-operator, lkmongo-auditor.

variable "own_collections" {
  description = "Collections of your own that the agent declares (docs/own-collections.md)"
  type        = list(string)
  default     = []
}

variable "passwords" {
  description = "Passwords of web, worker, operator and auditor, such as openssl rand -hex 24 makes: they go into MONGODB_URI"
  type        = map(string)
  ephemeral   = true # in no state and in no plan
  sensitive   = true
}

variable "password_version" {
  description = "Raise it with every change of a password: Terraform cannot see one otherwise"
  type        = number
  default     = 1
}

locals {
  # What is written of a session and of what is remembered, in lkmongo's collections and in yours.
  recorded = concat(["users", "memories", "memory_history", "sessions", "turns"], var.own_collections)
  # What keeps forgotten and erased things from coming back.
  kept = ["declarations", "tombstones", "keys"]
  # Whose telephone number it is, and how callers prove who they are.
  phones  = ["phones", "pins", "phone_attempts"]
  shown   = ["visitors", "used_seals", "orders", "knowledge", "receipts"]
  indexed = concat(local.recorded, local.phones, local.shown, ["audit"])
  # Everything but the audit trail.
  documents = concat(local.recorded, local.kept, local.phones, local.shown)

  # What each process may do, and in which collections; "" is the whole database.
  roles = {
    # lkmongo web: knows guests by their cookies, shows people what is remembered of them, forgets it, stores what they
    # accept, moves everything of a guest to their login, erases them and shows them who looked. It records callers to
    # whom no agent came. It reads no knowledge.
    # At the start it looks whether all indexes are there.
    web = {
      FIND             = concat(local.recorded, local.kept, local.phones, ["visitors", "used_seals", "orders", "receipts", "audit"])
      INSERT           = ["users", "memories", "memory_history", "sessions", "visitors", "tombstones", "keys", "receipts"]
      UPDATE           = concat(local.recorded, local.phones, ["visitors", "orders", "tombstones", "receipts"])
      REMOVE           = concat(local.recorded, local.phones, ["visitors"])
      LIST_INDEXES     = local.indexed
      LIST_COLLECTIONS = [""]
    }

    # lkmongo agent run, and any program with lkmongo.Memory: reads what an agent may quote, writes what a session
    # writes, and removes what its caller wants forgotten, or what it wrote of somebody who is erased. It changes no
    # knowledge and no orders. It finds people by their telephone number, links one to them, sets PINs and counts
    # attempts at them. It registers visitors' browsers, sees whether they have logged out, and for lkmongo doctor indexes.
    worker = {
      FIND         = concat(local.recorded, local.kept, local.phones, ["visitors", "used_seals", "orders", "knowledge"])
      INSERT       = concat(local.recorded, local.kept, local.phones, ["visitors", "used_seals"])
      UPDATE       = concat(local.recorded, local.phones, ["visitors", "declarations", "tombstones", "used_seals"])
      REMOVE       = concat(local.recorded, local.phones, ["visitors"])
      LIST_INDEXES = local.indexed
    }

    # The commands of lkmongo, for people and for CI: all documents, indexes, search indexes and the retention.
    # It drops no collection, and adds to the audit trail without changing it.
    operator = {
      FIND                = [""]
      INSERT              = concat(local.documents, ["audit"])
      UPDATE              = local.documents
      REMOVE              = local.documents
      CREATE_COLLECTION   = [""]
      COLL_MOD            = local.documents
      CREATE_INDEX        = [""]
      DROP_INDEX          = [""]
      LIST_INDEXES        = [""]
      LIST_COLLECTIONS    = [""]
      CREATE_SEARCH_INDEX = [""]
      UPDATE_SEARCH_INDEX = [""]
      DROP_SEARCH_INDEX   = [""]
      LIST_SEARCH_INDEXES = [""]
    }

    # lkmongo audit, and lkmongo db retention audit, which deletes old entries with a checkpoint.
    auditor = {
      FIND   = ["audit", "audit_checkpoints", "keys"]
      INSERT = ["audit", "audit_checkpoints"]
      REMOVE = ["audit"]
    }
  }
}

resource "mongodbatlas_custom_db_role" "process" {
  for_each = local.roles

  project_id = mongodbatlas_project.this.id
  role_name  = "lkmongo-${each.key}"

  dynamic "actions" {
    for_each = each.value
    content {
      action = actions.key
      dynamic "resources" {
        for_each = toset(actions.value)
        content {
          database_name   = var.database
          collection_name = resources.value
        }
      }
    }
  }
}

resource "mongodbatlas_database_user" "process" {
  for_each = mongodbatlas_custom_db_role.process

  project_id          = mongodbatlas_project.this.id
  username            = each.value.role_name
  password_wo         = var.passwords[each.key]
  password_wo_version = var.password_version
  auth_database_name  = "admin"

  roles {
    role_name     = each.value.role_name
    database_name = "admin"
  }

  scopes {
    name = mongodbatlas_advanced_cluster.this.name
    type = "CLUSTER"
  }
}
