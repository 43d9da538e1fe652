"""Seeds of declared collections: loaded with their owner, and every problem named with its file, line and field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from lkmongo.declarations import Collection, Declarations, ProfileField, declare
from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import SeedError
from lkmongo.model import UserScope
from lkmongo.store.indexes import database_indexes
from lkmongo.store.people.erase import erase
from lkmongo.store.people.own import OwnDocuments
from lkmongo.store.seed.seeding import Counts, prepare, seed
from lkmongo.store.seed.seeds import load_seeds

ROBIN = UserScope(tenant_id="default", user_id="u-1")


class Guest(BaseModel):
    name: str


class Appointment(BaseModel):
    appointment_id: str
    at: datetime
    service: str = Field(max_length=10)
    status: Literal["booked", "cancelled"] = "booked"
    guests: list[Guest] = []


APPOINTMENTS = Collection(
    "appointments", owner="person", key=("appointment_id",), document=Appointment, seed="appointments.yaml"
)
ROOMS = Collection("rooms", owner="tenant", key=("nr",), seed="rooms.yml")
DAYS = Collection("days", owner="shared", key=("day",), seed="days.yaml")
SETTINGS = Collection("wishes", owner="person", key=(), seed="wishes.yaml")

GOOD = """\
- user_id: u-1
  appointment_id: a-1
  at: 2026-12-01T10:00:00
  service: haircut
  guests:
    - name: Kim
- user_id: 7
  tenant_id: hotel
  appointment_id: a-1
  at: 2026-12-02
  service: colour
"""


@pytest.fixture(autouse=True)
def declared():
    declare(APPOINTMENTS, ROOMS, DAYS, SETTINGS, ProfileField("tier", choices=("gold", "silver")))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "appointments.yaml").write_text(GOOD)
    return tmp_path / "s"


def refused(folder):
    with pytest.raises(SeedError) as caught:
        load_seeds(folder)
    problems = [caught.value.message, *(caught.value.why or "").splitlines()]
    return [problem.removeprefix(str(folder / "appointments.yaml") + ":") for problem in problems], caught.value


def test_documents_are_loaded_with_their_owners_ids(folder):
    (folder / "rooms.yml").write_text("- {nr: 1, floor: 2}\n- {nr: 1, tenant_id: hotel}\n")
    (folder / "days.yaml").write_text("- day: 2026-12-25\n")
    (folder / "wishes.yaml").write_text("- {user_id: u-1, text: tea}\n- {user_id: u-2}\n")
    assert {each.name: documents for each, documents in load_seeds(folder).own} == {
        "appointments": (
            {
                "appointment_id": "a-1",
                "at": datetime(2026, 12, 1, 10, tzinfo=UTC),
                "service": "haircut",
                "status": "booked",
                "guests": [{"name": "Kim"}],
                "user_id": "u-1",
                "tenant_id": "default",
            },
            {
                "appointment_id": "a-1",
                "at": datetime(2026, 12, 2, tzinfo=UTC),
                "service": "colour",
                "status": "booked",
                "guests": [],
                "user_id": "7",
                "tenant_id": "hotel",
            },
        ),
        "rooms": ({"nr": 1, "floor": 2, "tenant_id": "default"}, {"nr": 1, "tenant_id": "hotel"}),
        "days": ({"day": datetime(2026, 12, 25, tzinfo=UTC)},),
        "wishes": (
            {"text": "tea", "user_id": "u-1", "tenant_id": "default"},
            {"user_id": "u-2", "tenant_id": "default"},
        ),
    }


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("T10:00:00", " at ten", "3: appointments[0].at must be a valid datetime"),
        ("2026-12-01T10:00:00", "2026-02-30", "3: appointments[0]: day is out of range for month"),
        ("service: haircut", "service: 7", "4: appointments[0].service must be a valid string, not the number 7"),
        ("haircut", "permanent wave", "4: appointments[0].service: String should have at most 10 characters"),
        ("name: Kim", "name: [Kim]", "6: appointments[0].guests[0].name must be a valid string"),
        (
            "name: Kim",
            "name: Kim\n      nick: K",
            "7: appointments[0].guests[0].nick is not one of its fields; these are",
        ),
        ("name: Kim", "nick: Kim", "6: appointments[0].guests[0] has no name"),
        ("  service: haircut\n", "", "1: appointments[0] has no service"),
        ("service: haircut", "sevrice: haircut", "4: appointments[0].sevrice is not one of its fields; these are"),
        (
            "  service: haircut\n",
            "  service: haircut\n  status: gone\n",
            "5: appointments[0].status must be 'booked' or",
        ),
        ("- user_id: u-1\n  appoint", "- appoint", "1: appointments[0] has no user_id"),
        ("user_id: u-1", "user_id: ''", "1: appointments[0].user_id: the user id is empty"),
        ("user_id: u-1", "user_id: {$gt: ''}", "1: appointments[0].user_id must be text, not a mapping"),
        ("user_id: u-1", "user_id: u-1\n  user_id: u-2", "2: appointments[0].user_id is given twice, first on line 1"),
        ("service: haircut", "service: a\n  service: b", "4: appointments[0].service is given twice"),
        ("service: haircut", "_id: 1\n  service: haircut", "4: appointments[0]._id cannot be given"),
        ("service: haircut", "service: !!python/name:os.system x", "4: appointments[0]: could not determine a constr"),
        (
            "appointment_id: a-1\n  at: 2026-12-01",
            "appointment_id: 17\n  at: 2026-12-01",
            "2: appointments[0].appointment_id must be",
        ),
        (
            "user_id: 7\n  tenant_id: hotel\n",
            "user_id: u-1\n",
            '7: appointments[1]: the appointment_id "a-1" of the user_id "u-1" of tenant default is used on line 1',
        ),
        ("service: haircut", "service: a\n  ? [b]\n  : 1", "5: appointments[0]: found unhashable key"),
        ("service: haircut", "service: a\n  7: 1", "1: appointments[0] has a field named 7"),
        (GOOD, "u-1", '1: must be a list of appointments, each starting with a dash, not "u-1"'),
        (GOOD, "- u-1", '1: appointments[0] must have fields such as user_id, not be "u-1"'),
        (GOOD, "- [", "1: is not YAML"),
        (GOOD, "", "1: is empty; fill it or remove it"),
        (GOOD, "- &a {user_id: u-1, appointment_id: a, at: 2026-12-01, service: *a}", "1: appointments[0]"),
    ],
)
def test_a_problem_is_named_with_its_line_and_field(folder, before, after, problem):
    assert before in GOOD
    (folder / "appointments.yaml").write_text(GOOD.replace(before, after, 1))
    found, _ = refused(folder)
    assert found[0].startswith(problem)
    assert len(found) == 1


def test_problems_of_several_records_are_all_named(folder):
    (folder / "appointments.yaml").write_text(GOOD.replace("haircut", "[]").replace("colour", "[]"))
    (folder / "rooms.yml").write_text("- {floor: 2}\n")
    found, _ = refused(folder)
    assert [each.rpartition("/")[2].partition(" must")[0] for each in found] == [
        "4: appointments[0].service",
        "11: appointments[1].service",
        "rooms.yml:1: rooms[0] has no nr",
    ]


def test_two_of_one_key_may_stand_in_one_line(folder):
    (folder / "rooms.yml").write_text("[{nr: 1}, {nr: 2}, {nr: 1}]\n")
    found, _ = refused(folder)
    assert found == [f'{folder / "rooms.yml"}:1: rooms[2]: the nr "1" of tenant default is used on line 1']


def test_a_person_has_one_document_where_there_is_no_key(folder):
    (folder / "wishes.yaml").write_text("- {user_id: u-1}\n- {user_id: u-1}\n")
    found, _ = refused(folder)
    assert found[0].endswith('wishes.yaml:2: wishes[1]: the user_id "u-1" of tenant default is used on line 1')


BELONGS = "users.yaml, orders.yaml, appointments.yaml, rooms.yml, days.yaml, wishes.yaml and knowledge/"


@pytest.mark.parametrize("alone", [True, False])
def test_a_file_that_belongs_to_nothing_is_an_error_that_says_what_is_possible(folder, alone):
    (folder / "invoices.yaml").write_text("- {user_id: u-1}\n")
    if alone:
        (folder / "appointments.yaml").unlink()
    found, error = refused(folder)
    assert found == [f"{folder / 'invoices.yaml'}: is not read; only {BELONGS} are"]
    assert "a collection of your own has the file that its declaration names" in error.hint
    (folder / "invoices.yaml").rename(folder / "apointments.yml")
    assert refused(folder)[0][0].endswith("is not read; did you mean appointments.yaml?")


def test_without_a_model_any_fields_are_taken(folder):
    known = Declarations.of(
        [Collection("appointments", owner="person", key=("appointment_id",), seed="appointments.yaml")]
    )
    (folder / "appointments.yaml").write_text("- {user_id: u-1, appointment_id: 3, a: {b: [1, 2.5, yes]}, c: }\n")
    ((_, documents),) = load_seeds(folder, known).own
    assert documents == ({"appointment_id": 3, "a": {"b": [1, 2.5, True]}, "user_id": "u-1", "tenant_id": "default"},)


FIELDS = "user_id, tenant_id, name, email, preferred_language, timezone, tier"


def test_a_declared_profile_field_is_read_and_checked(folder):
    (folder / "users.yaml").write_text("- {user_id: u-1, name: Ada, tier: GOLD}\n- {user_id: u-2}\n")
    assert [profile.values for profile in load_seeds(folder).users] == [{"name": "Ada", "tier": "gold"}, {}]
    (folder / "users.yaml").write_text("- user_id: u-1\n  tier: tin\n  shoe: 43\n")
    found, _ = refused(folder)
    assert [each.rpartition("/")[2] for each in found] == [
        "users.yaml:2: users[0].tier: the tier is one of gold, silver, not tin",
        f"users.yaml:3: users[0] has no field shoe; accepted are {FIELDS}",
    ]


async def test_a_second_run_changes_nothing_and_what_others_wrote_is_kept(store, folder):
    await database_indexes.apply(store.db)
    (folder / "users.yaml").write_text("- {user_id: u-1, tier: gold}\n")
    (folder / "rooms.yml").write_text("- {nr: 1, floor: 2}\n")
    (folder / "days.yaml").write_text("- day: 2026-12-25\n")
    await OwnDocuments(store.db, "rooms", lambda: ROBIN).insert({"nr": 1, "floor": 9})
    embedder = LocalEmbedder()
    counts = await seed(store.db, load_seeds(folder), embedder)
    assert counts.own == {"appointments": Counts(inserted=2), "rooms": Counts(kept=1), "days": Counts(inserted=1)}
    assert [row["collection"] for row in counts.rows()] == [
        "users",
        "orders",
        "knowledge",
        "appointments",
        "rooms",
        "days",
    ]
    counts = await seed(store.db, load_seeds(folder), embedder)
    assert counts.own == {"appointments": Counts(unchanged=2), "rooms": Counts(kept=1), "days": Counts(unchanged=1)}
    (folder / "appointments.yaml").write_text(GOOD.replace("haircut", "shave"))
    counts = await seed(store.db, load_seeds(folder), embedder)
    assert counts.own["appointments"] == Counts(updated=1, unchanged=1)
    (mine,) = await OwnDocuments(store.db, "appointments", lambda: ROBIN).find()
    assert (mine["service"], mine["at"]) == ("shave", datetime(2026, 12, 1, 10, tzinfo=UTC))
    assert (await store.users.get(ROBIN)).values == {"tier": "gold"}


async def test_documents_of_the_erased_are_left_out(store, folder):
    await database_indexes.apply(store.db)
    await seed(store.db, load_seeds(folder), LocalEmbedder())
    await erase(store.db, ROBIN, by="Sam")
    counts = await seed(store.db, load_seeds(folder), LocalEmbedder())
    assert counts.own["appointments"] == Counts(left_out=1, unchanged=1)
    assert counts.erased == {ROBIN}
    assert await store.db.appointments.count_documents(ROBIN.filter) == 0


class Parcel(BaseModel):
    order_id: str
    carrier: str


async def test_orders_of_ones_own_replace_those_of_the_sample_shop(store, folder):
    declare(Collection("orders", owner="person", key=("order_id",), document=Parcel, seed="orders.yaml"))
    (folder / "orders.yaml").write_text(
        "- {user_id: u-1, order_id: '1', carrier: DHL}\n- {user_id: u-1, order_id: '2'}\n"
    )
    found, _ = refused(folder)
    assert found == [f"{folder / 'orders.yaml'}:2: orders[1] has no carrier"]
    (folder / "orders.yaml").write_text("- {user_id: u-1, order_id: '1', carrier: DHL}\n")
    counts = await seed(store.db, load_seeds(folder), LocalEmbedder())
    assert counts.orders == Counts(inserted=1)
    assert (await store.orders.get(ROBIN, "1")).more == {"carrier": "DHL"}
    assert (await seed(store.db, load_seeds(folder), LocalEmbedder())).orders == Counts(unchanged=1)


async def test_a_first_start_loads_no_orders_of_a_shape_that_is_not_the_projects(store):
    declare(Collection("orders", owner="person", key=("order_id",), document=Parcel, seed="orders.yaml"))
    said = []
    await prepare(store.db, LocalEmbedder(), on_status=said.append, customer=ROBIN)
    assert said == ["This database is empty: loading the sample shop (users and knowledge) ..."]
    assert await store.db.orders.count_documents({}) == 0
    assert await store.db.users.count_documents({}) > 0
