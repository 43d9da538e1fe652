// Roles for MongoDB servers of your own; for Atlas see examples/terraform/users.tf, which `make docs` makes this of.
// As a user who administers users:
//   mongosh "$MONGODB_URI" docs/examples/roles.js
// Then a user for each process, which asks for its password:
//   db.getSiblingDB("admin").createUser({user: "web", pwd: passwordPrompt(), roles: ["lkmongo-web"]})
// The database is "lkmongo". Collections that you declare (docs/own-collections.md) are to be added.
const admin = db.getSiblingDB("admin")

admin.createRole({"role": "lkmongo-web", "roles": [], "privileges": [
  {"resource": {"db": "lkmongo", "collection": ""}, "actions": ["listCollections"]},
  {"resource": {"db": "lkmongo", "collection": "audit"}, "actions": ["find", "listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "declarations"}, "actions": ["find"]},
  {"resource": {"db": "lkmongo", "collection": "keys"}, "actions": ["find", "insert"]},
  {"resource": {"db": "lkmongo", "collection": "knowledge"}, "actions": ["listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "memories"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "memory_history"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "orders"}, "actions": ["find", "listIndexes", "update"]},
  {"resource": {"db": "lkmongo", "collection": "phone_attempts"}, "actions": ["find", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "phones"}, "actions": ["find", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "pins"}, "actions": ["find", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "receipts"}, "actions": ["find", "insert", "listIndexes", "update"]},
  {"resource": {"db": "lkmongo", "collection": "sessions"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "tombstones"}, "actions": ["find", "insert", "update"]},
  {"resource": {"db": "lkmongo", "collection": "turns"}, "actions": ["find", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "used_seals"}, "actions": ["find", "listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "users"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "visitors"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]}
]})

admin.createRole({"role": "lkmongo-worker", "roles": [], "privileges": [
  {"resource": {"db": "lkmongo", "collection": "audit"}, "actions": ["listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "declarations"}, "actions": ["find", "insert", "update"]},
  {"resource": {"db": "lkmongo", "collection": "keys"}, "actions": ["find", "insert"]},
  {"resource": {"db": "lkmongo", "collection": "knowledge"}, "actions": ["find", "listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "memories"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "memory_history"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "orders"}, "actions": ["find", "listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "phone_attempts"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "phones"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "pins"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "receipts"}, "actions": ["listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "sessions"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "tombstones"}, "actions": ["find", "insert", "update"]},
  {"resource": {"db": "lkmongo", "collection": "turns"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "used_seals"}, "actions": ["find", "insert", "listIndexes", "update"]},
  {"resource": {"db": "lkmongo", "collection": "users"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "visitors"}, "actions": ["find", "insert", "listIndexes", "remove", "update"]}
]})

admin.createRole({"role": "lkmongo-operator", "roles": [], "privileges": [
  {"resource": {"db": "lkmongo", "collection": ""}, "actions": ["createCollection", "createIndex", "dropIndex", "find", "listCollections", "listIndexes"]},
  {"resource": {"db": "lkmongo", "collection": "audit"}, "actions": ["insert"]},
  {"resource": {"db": "lkmongo", "collection": "declarations"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "keys"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "knowledge"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "memories"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "memory_history"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "orders"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "phone_attempts"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "phones"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "pins"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "receipts"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "sessions"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "tombstones"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "turns"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "used_seals"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "users"}, "actions": ["collMod", "insert", "remove", "update"]},
  {"resource": {"db": "lkmongo", "collection": "visitors"}, "actions": ["collMod", "insert", "remove", "update"]}
]})

admin.createRole({"role": "lkmongo-auditor", "roles": [], "privileges": [
  {"resource": {"db": "lkmongo", "collection": "audit"}, "actions": ["find", "insert", "remove"]},
  {"resource": {"db": "lkmongo", "collection": "audit_checkpoints"}, "actions": ["find", "insert"]},
  {"resource": {"db": "lkmongo", "collection": "keys"}, "actions": ["find"]}
]})

// For servers with search; MongoDB before 7.0 knows no such actions and refuses this last role alone:
//   db.getSiblingDB("admin").grantRolesToUser("operator", ["lkmongo-search"])

admin.createRole({"role": "lkmongo-search", "roles": [], "privileges": [
  {"resource": {"db": "lkmongo", "collection": ""}, "actions": ["createSearchIndexes", "dropSearchIndex", "listSearchIndexes", "updateSearchIndex"]}
]})
