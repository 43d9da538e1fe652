"""The Terraform of docs/examples: each database user may do what its process does, and nothing more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import OperationFailure

import lkmongo
from docs import roles
from docs.roles import ACTIONS, DATABASE, SEARCH
from lkmongo import declarations, telemetry
from lkmongo.after_end import Proposal
from lkmongo.declarations import Collection, ProfileField, declare
from lkmongo.doctor import database as doctor
from lkmongo.doctor import examine
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import LastSession, SessionRecord, SessionStatus, TenantScope, UserScope, now
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import Forget
from lkmongo.outbox.recovery import recover_and_log
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes.backfill import backfill
from lkmongo.store.indexes.definitions import search_indexes
from lkmongo.store.indexes.terraform import search_index_module
from lkmongo.store.indexes.upgrade import upgrade
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import COLLECTIONS
from lkmongo.store.open import Store, open_store
from lkmongo.store.people.admission import Admission
from lkmongo.store.people.audit import Audit, AuditFilter
from lkmongo.store.people.audit_chain import shorten, verify
from lkmongo.store.people.erase import erase, receipts, sweep_behind
from lkmongo.store.people.merge import merge
from lkmongo.store.people.users import Visitors
from lkmongo.tenants import TenantPolicy
from lkmongo.ticket import Ticket
from lkmongo.web.server import _prepare
from lkmongo.web.unanswered import record_unanswered
from tests import hcl
from tests.auth_mongod import Guarded, guarded_mongod
from tests.outbox.test_outbox import SAMPLES
from tests.people import furnish
from tests.waiting import until
from tests.web_server import call, token, told, web_server

TERRAFORM = Path(__file__).parent.parent / "docs/examples/terraform"
OWN = Collection("bookings", owner="person", key=("booking_id",))
ROBIN = UserScope(tenant_id="default", user_id="robin")
NUMBER, PIN, KEY = PhoneNumber("+4930901820"), "274963", ErasureKey(b"k" * 32)


ROLES = roles.roles([OWN.name])
ROLE_COMMANDS = Path(__file__).parent.parent / "docs/examples/roles.js"


class Seen(monitoring.CommandListener):
    """Which actions in which collections the commands of lkmongo needed, and which commands were refused."""

    def __init__(self) -> None:
        self.needed: set[tuple[str, str]] = set()
        self.refused: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        name, command = event.command_name, event.command
        target = str(command.get(name))
        upsert = any(each.get("upsert") for each in [command, *command.get("updates", [])])
        actions = {
            "find": ["find"],
            "aggregate": ["find"],
            "count": ["find"],
            "distinct": ["find"],
            "insert": ["insert"],
            "update": ["update", *(["insert"] if upsert else [])],
            "findAndModify": ["find", "update", *(["insert"] if upsert else [])],
            "delete": ["remove"],
            "create": ["createCollection"],
            "createIndexes": ["createIndex"],
            "dropIndexes": ["dropIndex"],
            "collMod": ["collMod"],
            "listIndexes": ["listIndexes"],
        }.get(name, [])
        if name == "listCollections":
            self.needed.add(("listCollections", ""))
        self.needed |= {(action, target) for action in actions if target != "1"}
        if name == "aggregate":
            self.needed |= {("find", each) for each in _joined(command["pipeline"])}

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        errors = event.reply.get("writeErrors", [])
        self.refused += [f"{event.command_name}: {each['errmsg']}" for each in errors if each["code"] == 13]

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        if event.failure.get("code") == 13:
            self.refused.append(f"{event.command_name}: {event.failure['errmsg']}")


def _joined(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(value[key]) for key in ("coll", "from") if key in value)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _joined(each)


@pytest.fixture
def seen(monkeypatch) -> Seen:
    """What clients that are made from here on send."""
    seen = Seen()
    monkeypatch.setattr(telemetry, "listeners", lambda: [seen])
    return seen


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    """A mongod with the three roles of the example, each with a user of its name."""
    with guarded_mongod(tmp_path_factory.mktemp("roles")) as guarded:
        with MongoClient(guarded.uri("root")) as client:
            # MongoDB knows the actions of search indexes since 7.0, and the embedded one is older.
            unknown = set(SEARCH.values()) if client.server_info()["versionArray"] < [7] else set()
            for name, allowed in ROLES.items():
                privileges = [
                    {"resource": {"db": DATABASE, "collection": collection}, "actions": [action]}
                    for action, collection in sorted(allowed)
                    if action not in unknown
                ]
                client.admin.command("createRole", name, privileges=privileges, roles=[])
        for name in ROLES:
            guarded.add(name, {"role": name, "db": "admin"})
        yield guarded


def settings(guarded: Guarded, user: str, home: Path) -> Settings:
    return Settings.load({"MONGODB_URI": guarded.uri(user), "MONGODB_DB": DATABASE, "LKMONGO_HOME": str(home)})


@contextlib.asynccontextmanager
async def as_user(guarded: Guarded, user: str, home: Path) -> AsyncIterator[Store]:
    async with open_store(settings(guarded, user, home)) as store:
        yield store


@pytest.fixture
async def operator(guarded, tmp_path) -> AsyncIterator[Store]:
    """The store of an operator, who has prepared the database, with a declared collection."""
    declare(OWN)
    async with as_user(guarded, "operator", tmp_path) as store:
        await database_indexes.apply(store.db)
        yield store
        with MongoClient(guarded.uri("root")) as root:  # the operator may not delete the audit trail
            for name in [*COLLECTIONS, OWN.name]:
                root[DATABASE][name].delete_many({})


async def booked(store: Store, scope: UserScope, *numbers: str) -> None:
    await store.db[OWN.name].insert_many([scope.filter | {"booking_id": number} for number in numbers])


@contextlib.contextmanager
def keyed(store: Store) -> Iterator[None]:
    """Give the process of a store a key for numbers and PINs."""
    store.db.client.erasure_key = KEY
    yield
    store.db.client.erasure_key = None


async def called(store: Store, scope: UserScope) -> None:
    """Let somebody have called from a number, with a PIN that they did not remember at first."""
    assert await store.phones.link(scope, NUMBER, by="call")
    await store.phones.seen(scope, NUMBER)
    await store.pins.set(scope, PIN, by="call")
    assert await store.pins.verify(scope, NUMBER, "385074") == "wrong"


async def test_web_does_what_it_does_and_may_do_no_more(guarded, operator, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(declarations, "_declared", declarations.Declarations())  # the web server declares nothing
    by_header = {"X-User": ROBIN.user_id}
    warnings: list[str] = []
    async with (
        as_user(guarded, "web", tmp_path) as store,
        web_server(
            store, hook=lambda request: request.headers.get("X-User"), policy=TenantPolicy(show_staff_access=True)
        ) as server,
    ):
        await _prepare(store, warnings.append)
        browser = server.browser()
        guest = told(await token(browser, server)).scope
        await furnish(operator, guest, orders=["o-1"])
        await booked(operator, guest, "b-1", "b-2")
        await booked(operator, ROBIN, "b-1")
        await operator.memories.remember(ROBIN, "city", "Porto")
        with keyed(operator):
            await called(operator, guest)
        await operator.users.set_last_session(guest, LastSession(now(), "a trip", "s-1"), started_at=now())
        began = now() - timedelta(minutes=5)
        suggested = [Proposal(f"p-{n}", "new", f"pet {n}", "a dog", began, "i", 0.9, state="suggested") for n in (1, 2)]
        await operator.sessions.save(
            SessionRecord("s-3", guest, "room", SessionStatus.COMPLETE, began, now()), learn=True
        )
        assert await operator.learning.propose(await operator.learning.claim(guest, "s-3"), suggested, {})
        for method, path, options in (
            ("GET", "memories", {}),
            ("POST", "suggestions/p-1/accept", {"json": {}}),
            ("POST", "suggestions/p-2/decline", {"json": {}}),
            ("DELETE", "memories/profile/last_call", {}),
            ("DELETE", "memories/memory/color", {}),
            ("DELETE", "memories/profile/name", {}),
            ("PUT", "memories/memory/color", {"json": {"content": "teal"}}),
            ("PUT", "memories/memory/color", {"json": {"content": "green"}}),
            ("PUT", "memories/memory/color", {"json": {"content": "teal"}}),
            ("PUT", "memories/profile/name", {"json": {"content": "Robin"}}),
            ("GET", "memories/memory/color/why", {}),
            ("GET", "memories/profile/name/why", {}),
            ("GET", "sessions", {}),
            ("GET", "memories", {"headers": by_header}),  # the guest becomes Robin
        ):
            status, answer = await call(browser, method, f"{server.url}api/{path}", **options)
            assert status in {200, 204}, (path, answer)
        assert await operator.db[OWN.name].count_documents(ROBIN.filter) == 2
        assert await operator.db.turns.count_documents(ROBIN.filter) == 6
        another = server.browser()
        await token(another, server)
        for method, path in (("DELETE", "memories"), ("POST", "logout")):
            status, _ = await call(another, method, f"{server.url}api/{path}", json={})
            assert status in {200, 204}
        third = server.browser()
        await token(third, server)
        for method, path, options in (
            ("GET", "rights", {}),
            ("POST", "consent", {"json": {"agree": True}}),
            ("POST", "consent", {"json": {"agree": False}}),
            ("GET", "export", {}),
            ("POST", "erase", {"json": {"confirm": "erase"}}),
        ):
            status, answer = await call(third, method, f"{server.url}api/{path}", **options)
            assert status == 200, (path, answer)
        nobody = {"headers": {"X-User": "nobody"}, "json": {}}
        assert (await call(server.browser(), "POST", f"{server.url}api/erase", **nobody))[0] == 404
        # Somebody is erased while a suggestion of theirs is being stored.
        await erase(operator.db, ROBIN, by="Sam")
        await sweep_behind(store.db, ROBIN, "s-3")
        ticket = Ticket("RM_1", "a-seal", "a-browser", began, now() + timedelta(minutes=5))
        waited = SessionRecord("RM_1", guest, "room", SessionStatus.NO_AGENT, now(), now(), ticket=ticket)
        assert await record_unanswered(store.db, waited, asks=False)
        await store.ping()
        checks = await examine(settings(guarded, "web", tmp_path), {}, only=["mongodb"])
    assert [f"{check.name}: {check.detail}" for check in checks if check.status == "fail"] == []
    assert "web of admin may do what lkmongo web does" in [check.detail for check in checks]
    assert (warnings, seen.refused) == ([], [])
    assert sorted(ROLES["web"] - seen.needed) == []


async def test_a_worker_does_what_it_does_and_may_do_no_more(guarded, operator, seen, tmp_path):
    at = now()
    await operator.db.orders.insert_one(ROBIN.filter | {"order_id": "o-1", "items": [], "total": 1, "status": "new"})
    await booked(operator, UserScope(tenant_id="default", user_id="guest-7"), "b-7")
    declare(ProfileField("loyalty_tier", choices=("gold",)))  # of a later release of the agent
    async with lkmongo.Memory(settings(guarded, "worker", tmp_path)) as memory:
        async with memory.session(user_id=ROBIN.user_id, session_id="s-1") as caller:
            await caller.remember("city", "Porto")
            await caller.remember("city", "Lisbon")
            await caller.update_profile("name", "Robin")
            assert await caller.order("o-1")
            assert (await caller.search_memories("city"))[0].content == "Lisbon"
            assert not (await caller.search_knowledge("guarantee")).hits
            assert await caller.search_past_calls("a kettle") == []
            bookings = caller.collection(OWN.name)
            assert await bookings.insert({"booking_id": "b-1"})
            assert await bookings.update({"booking_id": "b-1"}, {"$set": {"at": "noon"}}) == 1
            await until(lambda: operator.db.memory_history.find_one(ROBIN.filter))
            assert await bookings.find() == [{"booking_id": "b-1", "at": "noon"}]
            await caller.forget("city")
        store = await memory.store()
        with keyed(store):
            await called(store, ROBIN)
            assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"
            assert await store.phones.unlink(ROBIN, NUMBER) == await store.pins.clear(ROBIN) == 1
        ticket = Ticket("RM_1", "seal", "visitor", at, at)
        await Admission(store.db, ticket, at).confirm()
        await Visitors(store.db).begin(ticket, UserScope(tenant_id="default", user_id="web-1"))
        record = SessionRecord("s-2", ROBIN, "room", SessionStatus.ACTIVE, at)
        await store.sessions.open(record, "me")
        for operation in SAMPLES:
            for _ in range(2):
                await apply([operation], Target(store, record, "me"))
        stranger = SessionRecord("s-3", UserScope(tenant_id="default", user_id="kim"), "room", SessionStatus.ACTIVE, at)
        await apply([Forget(at, "city")], Target(store, stranger, "me"))
        await recover_and_log(memory.settings, store)
        assert await operator.db[OWN.name].count_documents(ROBIN.filter) == 2
        # Somebody is erased while their session is suspended.
        await operator.db.sessions.delete_many(ROBIN.filter)
        await erase(operator.db, ROBIN, by="Sam")
        await sweep_behind(store.db, ROBIN, "s-2")
        checks = await examine(memory.settings, {}, only=["mongodb", "indexes", "vectors", "schema"])
    assert [f"{check.name}: {check.detail}" for check in checks if check.status == "fail"] == []
    assert seen.refused == []
    assert sorted(ROLES["worker"] - seen.needed) == []


async def test_an_operator_does_what_the_commands_do(guarded, seen, tmp_path):
    with MongoClient(guarded.uri("root")) as root:
        root.drop_database(DATABASE)
    declare(OWN)
    mine = settings(guarded, "operator", tmp_path)
    async with lkmongo.Memory(mine) as memory, as_user(guarded, "operator", tmp_path) as store:
        await database_indexes.apply(store.db)
        for keep in (timedelta(days=90), timedelta(days=30), None):
            await database_indexes.set_retention(store.db, "calls", keep)
        await memory.knowledge.add_text("guarantee.md", "# Guarantee\n\nThe guarantee is two years.\n")
        await furnish(store, ROBIN, calls=())
        await memory.people.set(ROBIN.user_id, "city", "Lisbon")
        guest = UserScope(tenant_id="default", user_id="guest")
        await furnish(store, guest)
        await backfill(store.db, LocalEmbedder())
        assert (await merge(store.db, guest, ROBIN)).moved["sessions"] == 2
        assert [each async for each in upgrade(store.db)]
        await Audit(store.db).write(operator="sam", action="users erase", tenant_id="default", scope=ROBIN)
        assert (await verify(store.db)).problems == []
        await erase(store.db, ROBIN, by="Sam")
        assert len(await receipts(store.db, TenantScope("default"))) == 1
        assert await memory.knowledge.remove("guarantee.md")
        checks = await examine(mine, {}, only=["mongodb", "indexes", "vectors", "schema"])
    assert [f"{check.name}: {check.detail}" for check in checks if check.status == "fail"] == []
    assert seen.refused == []
    assert {action for action, _ in ROLES["operator"]} == {action for action, _ in seen.needed} | set(SEARCH.values())


async def test_an_auditor_reads_the_trail_and_deletes_what_is_old(guarded, operator, seen, tmp_path, monkeypatch):
    with MongoClient(guarded.uri("root")) as root:
        root[DATABASE].audit.delete_many({})
    with monkeypatch.context() as patch:
        patch.setattr("lkmongo.store.people.audit.now", lambda: now() - timedelta(days=400))
        for _ in range(2):
            await Audit(operator.db).write(operator="sam", action="memory list", tenant_id="default", scope=ROBIN)
    seen.needed.clear()
    async with as_user(guarded, "auditor", tmp_path) as store:
        await Audit(store.db).write(operator="kim", action="db retention audit", tenant_id=None)
        assert (await shorten(store.db, timedelta(days=365))).number == 2
        assert (await verify(store.db)).entries == 1
        assert len(await Audit(store.db).newest(AuditFilter())) == 1
    assert seen.refused == []
    assert sorted(ROLES["auditor"] - seen.needed) == []


@pytest.mark.parametrize(
    ("user", "forbidden"),
    [
        ("web", [{"find": "knowledge"}, {"insert": "turns", "documents": [{}]}, {"drop": "users"}]),
        ("worker", [{"insert": "knowledge", "documents": [{}]}, {"find": "receipts"}, {"drop": "users"}]),
        (
            "operator",
            [
                {"drop": "users"},
                {"dropDatabase": 1},
                {"update": "audit", "updates": [{"q": {}, "u": {"$set": {"reason": "x"}}}]},
                {"delete": "audit", "deletes": [{"q": {}, "limit": 0}]},
                {"collMod": "audit", "index": {"keyPattern": {"at": 1}, "expireAfterSeconds": 1}},
                {"insert": "audit_checkpoints", "documents": [{}]},
                {"drop": "audit"},
            ],
        ),
        ("auditor", [{"update": "audit", "updates": [{"q": {}, "u": {"$set": {"reason": "x"}}}]}, {"find": "users"}]),
    ],
)
def test_what_nobody_needs_is_refused(guarded, user, forbidden):
    with MongoClient(guarded.uri(user)) as client:
        for command in forbidden:
            with pytest.raises(OperationFailure) as caught:
                client[DATABASE].command(command)
            assert caught.value.code == 13
            with pytest.raises(OperationFailure) as caught:
                client["another"].command("find", "users")
            assert caught.value.code == 13


def test_the_commands_for_servers_of_ones_own_give_the_same_rights(tmp_path):
    text = ROLE_COMMANDS.read_text(encoding="utf-8")
    commands = [
        json.loads(each) for each in re.findall(r"^admin\.createRole\((.*?)\)$", text, re.DOTALL | re.MULTILINE)
    ]
    with guarded_mongod(tmp_path) as server, MongoClient(server.uri("root")) as root:
        for command in commands[:-1]:
            root.admin.command("createRole", command.pop("role"), **command)
        for name, allowed in roles.roles().items():
            with MongoClient(server.add(name, {"role": f"lkmongo-{name}", "db": "admin"})) as client:
                status = client.admin.command("connectionStatus", showPrivileges=True)
            granted = {
                (action, each["resource"]["collection"])
                for each in status["authInfo"]["authenticatedUserPrivileges"]
                if each["resource"].get("db") == DATABASE
                for action in each["actions"]
            }
            assert granted == {pair for pair in allowed if pair[0] not in SEARCH.values()}
        searching = {action for each in commands[-1]["privileges"] for action in each["actions"]}
        assert searching == set(SEARCH.values())


needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")
PROVIDER = shutil.which("terraform-provider-mongodbatlas")


def terraform(folder: Path, *arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
    """Run Terraform in a folder, with no configuration but this."""
    (folder / "config.tfrc").write_text(config)
    env = os.environ | {"TF_CLI_CONFIG_FILE": str(folder / "config.tfrc"), "TF_IN_AUTOMATION": "1"}
    return subprocess.run(
        ["terraform", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def example(tmp_path) -> Path:
    """A copy of the example, with the search indexes where the workflow writes them."""
    folder = shutil.copytree(TERRAFORM, tmp_path / "terraform")
    text = search_index_module(search_indexes(512), DATABASE)
    (folder / "search-indexes/main.tf").write_text(text)
    return folder


def test_the_example_is_in_the_language_and_names_what_is_there(example):
    files = {path.relative_to(example).as_posix(): hcl.parse(path.read_text()) for path in example.rglob("*.tf")}
    assert set(files) == {"main.tf", "users.tf", "search-indexes/state.tf", "search-indexes/main.tf"}
    for folder in (".", "search-indexes"):
        blocks = [each for name, file in files.items() if Path(name).parent == Path(folder) for each in file.blocks]
        names = [(each.kind, each.labels) for each in blocks if each.kind not in {"terraform", "locals"}]
        assert len(names) == len(set(names))
        there = {("var", *each.labels) for each in blocks if each.kind == "variable"}
        there |= {each.labels for each in blocks if each.kind == "resource"}
        there |= {("local", name) for each in blocks if each.kind == "locals" for name in each.attributes}
        # What a block gives to those in it.
        there |= {("each", "key"), ("each", "value"), ("actions", "key"), ("actions", "value"), ("resources", "value")}
        used = {path[:2] for each in blocks if each.kind != "variable" for path in references(each)}
        assert {path for path in used if len(path) > 1} <= there


def references(value: Any) -> Iterator[tuple[Any, ...]]:
    match value:
        case hcl.Reference(path):
            yield path
            yield from (each for part in path for each in references(part))
        case hcl.Call(_, arguments):
            yield from (each for argument in arguments for each in references(argument))
        case hcl.Block():
            yield from (each for part in [*value.attributes.values(), *value.blocks] for each in references(part))
        case dict():
            yield from (each for part in value.values() for each in references(part))
        case list():
            yield from (each for part in value for each in references(part))


@needs_terraform
def test_terraform_would_leave_the_example_as_it_is(example):
    checked = terraform(example, "fmt", "-check", "-diff", "-recursive", ".")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


RESOURCES = '[for one in each.resources : "${each.action} ${one.collection_name}"]'
needs_provider = pytest.mark.skipif(
    not (shutil.which("terraform") and PROVIDER), reason="terraform and terraform-provider-mongodbatlas are not on PATH"
)
OVERRIDE = f"""\
provider_installation {{
  dev_overrides {{ "mongodb/mongodbatlas" = "{Path(str(PROVIDER)).parent}" }}
}}
"""


@needs_provider
@pytest.mark.parametrize("folder", [".", "search-indexes"])
def test_the_example_is_valid_for_the_provider(example, folder):
    checked = terraform(example / folder, "validate", "-json", config=OVERRIDE)
    report = json.loads(checked.stdout)
    assert (report["valid"], report["error_count"]) == (True, 0), report["diagnostics"]
    (example / folder / "wrong.tf").write_text('resource "mongodbatlas_search_index" "wrong" { colour = "teal" }\n')
    assert not json.loads(terraform(example / folder, "validate", "-json", config=OVERRIDE).stdout)["valid"]


@needs_provider
def test_terraform_plans_the_roles_that_are_tested_here(example):
    main = (example / "main.tf").read_text()
    (example / "main.tf").write_text(re.sub(r'\n  backend "s3" \{.*?\n  \}\n', "\n", main, flags=re.DOTALL))
    names = {action: name for name, action in ACTIONS.items()}
    asserted = ""
    for name, allowed in ROLES.items():
        planned = f'[for each in mongodbatlas_custom_db_role.process["{name}"].actions : {RESOURCES}]'
        wanted = json.dumps([f"{names[action]} {collection}" for action, collection in allowed])
        condition = f"toset(flatten({planned})) == toset({wanted})"
        asserted += f'assert {{\ncondition = {condition}\nerror_message = "{name}"\n}}\n'
    (example / "roles.tftest.hcl").write_text(
        f"""
mock_provider "mongodbatlas" {{}}
variables {{
  org_id          = "0123456789abcdef01234567"
  access_list     = {{ "203.0.113.7/32" = "agents" }}
  passwords       = {{ web = "a", worker = "b", operator = "c", auditor = "d" }}
  own_collections = ["{OWN.name}"]
}}
run "roles" {{
command = plan
{asserted}}}
run "everybody" {{
  command = plan
  variables {{
    access_list = {{ "0.0.0.0/0" = "everybody" }}
  }}
  expect_failures = [var.access_list]
}}
"""
    )
    tested = terraform(example, "test", "-no-color", config=OVERRIDE)
    assert "2 passed, 0 failed" in tested.stdout, tested.stdout + tested.stderr


def test_the_doctor_expects_of_a_user_what_its_role_allows():
    def pairs(*needs: doctor.Needs) -> set[tuple[str, str]]:
        return {(action, name) for each in needs for action, names in each.items() for name in names}

    listing = {"listIndexes", "listCollections"}
    plain = {name: {pair for pair in allowed if pair[0] not in listing} for name, allowed in roles.roles().items()}
    assert plain["worker"] == pairs(doctor.READING, doctor.WRITING)
    assert plain["web"] == pairs(doctor.WEB)
    assert {action for action, _ in pairs(doctor.PROVISIONING, doctor.SEARCH_PROVISIONING)} <= {
        action for action, _ in ROLES["operator"]
    }
