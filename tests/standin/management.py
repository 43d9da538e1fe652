"""The commands that manage search indexes: checks in the order of the service, and its words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from tests.standin import auto_embed
from tests.standin.definitions import TYPES, Definition, VectorDefinition, parse_definition
from tests.standin.errors import MANAGEMENT_DOWN, QUOTA, CommandError, DefinitionError, MongotError, unsupported
from tests.standin.shown import equivalent

if TYPE_CHECKING:
    from tests.standin.catalog import Catalog, Index
    from tests.standin.commands import Command
    from tests.standin.profiles import Profile
    from tests.standin.snapshots import Collection, Snapshots

COMMANDS = {"createSearchIndexes", "updateSearchIndex", "dropSearchIndex", "listSearchIndexes"}
NOT_CONFIGURED = (
    "Using Atlas Search Database Commands and the $listSearchIndexes aggregation stage requires additional "
    "configuration. Please connect to Atlas or an AtlasCLI local deployment to enable. For more information on how to "
    "connect, see https://dochub.mongodb.org/core/atlas-cli-deploy-local-reqs."
)
_ANY_ID = "0" * 24
ONLY_ATLAS = "Search index commands are only supported with Atlas."
_GENERIC = {
    "$db",
    "$clusterTime",
    "$readPreference",
    "lsid",
    "comment",
    "maxTimeMS",
    "apiVersion",
    "apiStrict",
    "apiDeprecationErrors",
    "txnNumber",
    "autocommit",
    "startTransaction",
}


def not_configured(profile: Profile) -> CommandError:
    """The error of a server without a management service; the first servers to know the commands said it otherwise."""
    return CommandError(115, ONLY_ATLAS) if profile.number < (8, 0) else CommandError(31082, NOT_CONFIGURED)


@dataclass(frozen=True)
class _Wanted:
    """An index that is to be created, and what was made of its definition."""

    name: str
    kind: str
    definition: dict[str, Any]
    parsed: Definition | DefinitionError


class Management:
    """createSearchIndexes, updateSearchIndex, dropSearchIndex and the documents of $listSearchIndexes."""

    def __init__(self, catalog: Catalog, snapshots: Snapshots, profile: Profile) -> None:
        self.catalog = catalog
        self.snapshots = snapshots
        self.profile = profile
        self.down_until = float("inf") if profile.management_down else 0.0
        self._one_at_a_time = asyncio.Lock()

    async def run(self, command: Command) -> dict[str, Any]:
        """Carry out a management command."""
        self.check_reachable()
        if command.in_transaction:
            raise CommandError(263, f"Cannot run '{command.name}' in a multi-document transaction.")
        if command.body.get("apiStrict"):
            raise CommandError(323, f"Provided apiStrict:true, but the command {command.name} is not in API Version 1.")
        if "writeConcern" in command.body:
            raise CommandError(72, "Command does not support writeConcern")
        if "readConcern" in command.body:
            raise CommandError(72, f"Command {command.name} does not support readConcern")
        async with self._one_at_a_time:
            if command.name == "createSearchIndexes":
                return await self._create(command)
            if command.name == "updateSearchIndex":
                return await self._update(command)
            if command.name == "dropSearchIndex":
                return await self._drop(command)
        raise unsupported(f"the internal command {command.name}")

    def check_reachable(self) -> None:
        """Fail if there is no management service, or none that answers."""
        if self.profile.search == "unconfigured":
            raise not_configured(self.profile)
        if self.catalog.clock.now() < self.down_until:
            raise CommandError(125, MANAGEMENT_DOWN)

    async def list(self, database: str, name: str, spec: Any) -> list[dict[str, Any]]:
        """The documents of $listSearchIndexes; none for a collection that does not exist."""
        self.check_reachable()
        if not isinstance(spec, dict):
            raise CommandError(9, "The $listSearchIndexes stage specification must be an object.")
        for key, value in spec.items():
            if key not in ("id", "name"):
                raise CommandError(40415, f"BSON field '$listSearchIndexes.{key}' is an unknown field.")
            if not isinstance(value, str):
                raise CommandError(14, f"BSON field '$listSearchIndexes.{key}' is the wrong type, expected 'string'")
        if len(spec) > 1:
            raise CommandError(72, "Cannot set both 'name' and 'id' for $listSearchIndexes.")
        if not ObjectId.is_valid(spec.get("id", _ANY_ID)):
            raise MongotError(8, '"userCommand.id" is invalid ObjectId format')
        collection = await self.snapshots.collection(database, name)
        if collection is None:
            return []
        indexes = [
            index
            for index in self.catalog.of(collection.uuid)
            if spec.get("name", index.name) == index.name and spec.get("id", index.id) == index.id
        ]
        return [self.catalog.listing(index) for index in indexes]

    async def _collection(self, command: Command) -> Collection:
        name = command.body[command.name]
        if not isinstance(name, str) or not name:
            raise CommandError(73, f"Invalid namespace specified '{command.database}.{name}'")
        collection = await self.snapshots.collection(command.database, name)
        if collection is None:
            raise CommandError(26, f"Collection '{command.database}.{name}' does not exist.")
        if not collection.plain:
            raise unsupported("search indexes of views and time series")
        return collection

    async def _create(self, command: Command) -> dict[str, Any]:
        _known(command, {"createSearchIndexes", "indexes"})
        specs = command.body.get("indexes")
        if not isinstance(specs, list) or not specs:
            raise CommandError(2, "'indexes' must be a non-empty array")
        collection = await self._collection(command)
        wanted = [self._specified(number, spec) for number, spec in enumerate(specs)]
        for item in wanted:
            if isinstance(item.parsed, VectorDefinition):
                auto_embed.check_creation(item.parsed.vectors.values(), embeds=self.profile.embeds)
        fresh = [item for item in wanted if not self._same_exists(collection, item)]
        if len({item.name for item in fresh}) != len(fresh):
            raise CommandError(125, f"duplicate index names for the same collection: {ObjectId()}")
        for item in fresh:
            if isinstance(item.parsed, DefinitionError):
                raise item.parsed
        await self._check_quota(len(fresh))
        await self.snapshots.refresh(collection)
        created = []
        for item in wanted:
            identity = str(ObjectId())
            if item in fresh and not isinstance(item.parsed, DefinitionError):
                made = self.catalog.create(collection.uuid, item.name, item.kind, item.definition, item.parsed)
                identity = made.id
            created.append({"id": identity, "name": item.name})
        return {"indexesCreated": created, "ok": 1.0}

    def _specified(self, number: int, spec: Any) -> _Wanted:
        if not isinstance(spec, dict):
            raise CommandError(14, "'indexes' must hold documents")
        for key in spec:
            if key not in ("name", "type", "definition"):
                raise CommandError(40415, f"BSON field 'createSearchIndexes.indexes.{key}' is an unknown field.")
        name, kind = spec.get("name", "default"), spec.get("type", "search")
        if not isinstance(name, str) or not name:
            raise CommandError(2, "the index name must be a non-empty string")
        if kind not in TYPES:
            raise CommandError(8, f'"userCommand.indexes[{number}].type" must be one of [{", ".join(TYPES)}]')
        if "definition" not in spec:
            raise CommandError(40414, "BSON field 'createSearchIndexes.indexes.definition' is missing")
        return _Wanted(name, kind, spec["definition"], self._read(number, kind, spec["definition"]))

    def _read(self, number: int, kind: str, definition: Any) -> Definition | DefinitionError:
        """The definition, or what is wrong with one that can be read: that is told after conflicts of names."""
        try:
            return parse_definition(kind, definition, small=self.profile.small)
        except DefinitionError as error:
            if error.readable:
                return error
            raise self._atlas_words(error) or error.at_creation(number) from None

    def _atlas_words(self, error: DefinitionError) -> CommandError | None:
        """The one refusal that Atlas is known to say otherwise (drivers' specification, index management, case 8)."""
        if self.profile.duplicate == "strict" and error.message == '"mappings" is required':
            return CommandError(2, "Invalid index definition: Attribute mappings missing.")
        return None

    def _same_exists(self, collection: Collection, wanted: _Wanted) -> bool:
        """Whether the lenient service has just this index; an error if it has another one of that name."""
        name = wanted.name
        present = self.catalog.find(collection.uuid, name=name)
        if present is None:
            return False
        if self.profile.duplicate == "strict":
            raise CommandError(
                68,
                f'An index named "{name}" is already defined for collection {collection.name}. '
                "Index names must be unique for a source collection and all its views.",
            )
        if present.kind == wanted.kind and equivalent(wanted.kind, present.latest.definition, wanted.definition):
            return True
        raise CommandError(68, f"Index {name} already exists with a different definition. Drop it first if needed.")

    async def _check_quota(self, wanted: int) -> None:
        if self.profile.quota is None:
            return
        alive = await self.snapshots.living(self.catalog.collections())
        if self.catalog.count(alive) + wanted > self.profile.quota:
            raise CommandError(20, QUOTA)

    async def _named(self, command: Command) -> Index:
        name, index_id = command.body.get("name"), command.body.get("id")
        if name is not None and index_id is not None:
            raise CommandError(72, "Cannot set both 'name' and 'id'.")
        if name is None and index_id is None:
            raise CommandError(72, "Must set either 'name' or 'id'.")
        collection = await self._collection(command)
        index = self.catalog.find(collection.uuid, name=name, index_id=index_id)
        if index is None:
            namespace = f"{command.database}.{collection.name}"
            raise CommandError(27, f"No index with name {name or index_id} exists in namespace {namespace}")
        if index.dropped is not None:
            raise CommandError(20, "Index already requested to be deleted")
        return index

    async def _update(self, command: Command) -> dict[str, Any]:
        _known(command, {"updateSearchIndex", "name", "id", "definition", "type"})
        if "definition" not in command.body:
            raise CommandError(40414, "BSON field 'updateSearchIndex.definition' is missing but a required field")
        index = await self._named(command)
        if command.body.get("type", index.kind) != index.kind:
            raise CommandError(197, "An index's type cannot be changed")
        definition = command.body["definition"]
        try:
            parsed = parse_definition(index.kind, definition, small=self.profile.small, update=True)
        except DefinitionError as error:
            raise self._atlas_words(error) or error from None
        if isinstance(parsed, VectorDefinition):
            auto_embed.check_update(index.latest.definition, definition, index.name)
        self.catalog.update(index, definition, parsed)
        return {"ok": 1.0}

    async def _drop(self, command: Command) -> dict[str, Any]:
        _known(command, {"dropSearchIndex", "name", "id"})
        self.catalog.drop(await self._named(command), at_once=self.profile.drops_at_once)
        return {"ok": 1.0}


def _known(command: Command, keys: set[str]) -> None:
    for key in command.body:
        if key not in keys and key not in _GENERIC:
            raise CommandError(40415, f"BSON field '{command.name}.{key}' is an unknown field.")
