"""What each process may do in the database: read from examples/terraform/users.tf, written as commands for mongosh."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import hcl

DATABASE = "lkmongo"
SEARCH = {
    "CREATE_SEARCH_INDEX": "createSearchIndexes",
    "UPDATE_SEARCH_INDEX": "updateSearchIndex",
    "DROP_SEARCH_INDEX": "dropSearchIndex",
    "LIST_SEARCH_INDEXES": "listSearchIndexes",
}
ACTIONS = SEARCH | {
    "FIND": "find",
    "INSERT": "insert",
    "UPDATE": "update",
    "REMOVE": "remove",
    "CREATE_COLLECTION": "createCollection",
    "COLL_MOD": "collMod",
    "CREATE_INDEX": "createIndex",
    "DROP_INDEX": "dropIndex",
    "LIST_INDEXES": "listIndexes",
    "LIST_COLLECTIONS": "listCollections",
}
"""What MongoDB calls the actions that Atlas has in capitals (Atlas Administration API, custom database roles)."""
_USERS = Path(__file__).parent / "examples/terraform/users.tf"
_HEAD = """\
// Roles for MongoDB servers of your own; for Atlas see examples/terraform/users.tf, which `make docs` makes this of.
// As a user who administers users:
//   mongosh "$MONGODB_URI" docs/examples/roles.js
// Then a user for each process, which asks for its password:
//   db.getSiblingDB("admin").createUser({user: "web", pwd: passwordPrompt(), roles: ["lkmongo-web"]})
// The database is "lkmongo". Collections that you declare (docs/own-collections.md) are to be added.
const admin = db.getSiblingDB("admin")
"""
_SEARCH_HEAD = """
// For servers with search; MongoDB before 7.0 knows no such actions and refuses this last role alone:
//   db.getSiblingDB("admin").grantRolesToUser("operator", ["lkmongo-search"])
"""


def roles(own: Sequence[str] = ()) -> dict[str, set[tuple[str, str]]]:
    """What each role allows: pairs of an action and a collection, "" for the whole database."""
    (found,) = [each for each in hcl.parse(_USERS.read_text(encoding="utf-8")).blocks if each.kind == "locals"]
    scope = {("local", name): value for name, value in found.attributes.items()} | {("var", "own_collections"): own}
    return {
        name: {(ACTIONS[action], collection) for action, names in allowed.items() for collection in names}
        for name, allowed in hcl.evaluate(found.attributes["roles"], scope).items()
    }


def commands() -> str:
    """docs/examples/roles.js."""
    text = _HEAD
    searching = set(SEARCH.values())
    for name, allowed in roles().items():
        text += _command(f"lkmongo-{name}", {pair for pair in allowed if pair[0] not in searching})
    return text + _SEARCH_HEAD + _command("lkmongo-search", {(action, "") for action in searching})


def _command(name: str, allowed: set[tuple[str, str]]) -> str:
    return f'\nadmin.createRole({{"role": "{name}", "roles": [], "privileges": [\n{_privileges(allowed)}\n]}})\n'


def _privileges(allowed: set[tuple[str, str]]) -> str:
    return ",\n".join(
        f'  {{"resource": {json.dumps({"db": DATABASE, "collection": collection})}, "actions": {json.dumps(actions)}}}'
        for collection, actions in _by_collection(allowed)
    )


def _by_collection(allowed: set[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    for collection in sorted({collection for _, collection in allowed}):
        yield collection, sorted(action for action, of in allowed if of == collection)
