"""Declared collections go the way of their person: exported, merged, erased; also where nobody declares them now."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from lkmongo import declarations
from lkmongo.declarations import Collection, Declarations, ProfileField, declare
from lkmongo.errors import InvalidTextError, NotFoundError, SecretError
from lkmongo.model import UserScope, now
from lkmongo.store.indexes import database_indexes
from lkmongo.store.people.erase import erase, erase_known, receipts, sweep_behind
from lkmongo.store.people.forget import forget_known, forget_line
from lkmongo.store.people.merge import merge, merge_known
from lkmongo.store.people.orders import read_order
from lkmongo.store.people.own import OwnDocuments
from lkmongo.store.people.person import count, export, is_known, lines
from tests.people import anywhere, furnish

ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
ELSEWHERE = UserScope(tenant_id="hotel", user_id="robin")

NOTES = Collection("notes", owner="person", key=("nr",), indexes=["-at"])
BILLS = Collection("bills", owner="person", key=("nr",), erased=False, unique_within="tenant")
DRAFTS = Collection("drafts", owner="person", key=(), exported=False)
ROOMS = Collection("rooms", owner="tenant", key=("nr",))
TIER = ProfileField("loyalty_tier", choices=("gold", "silver"), words="tier")


def of(store, scope, name="notes"):
    return OwnDocuments(store.db, name, lambda: scope)


def forget_the_module(monkeypatch):
    """From now on this process declares nothing, as that of support staff without the module."""
    monkeypatch.setattr(declarations, "_declared", Declarations())


@pytest.fixture
async def declared(store):
    declare(NOTES, BILLS, DRAFTS, ROOMS, TIER)
    await database_indexes.apply(store.db)
    for person in (ROBIN, KIM, ELSEWHERE):
        await of(store, person).insert({"nr": 1, "text": f"a note of {person.user_id} in {person.tenant_id}"})
    await of(store, ROBIN).insert({"nr": 2, "text": "zeppelin"})
    await of(store, ROBIN, "bills").insert({"nr": 7, "sum": 3})
    await of(store, ROBIN, "drafts").insert({"text": "a draft"})
    await of(store, ROBIN, "rooms").insert({"nr": 1})


async def left(store, scope):
    return {name: number for name, number in (await count(store.db, scope)).items() if number}


async def exported(store, scope):
    return json.loads("".join([piece async for piece in export(store.db, scope)]))


# ---------------------------------------------------------------- erase


@pytest.mark.parametrize("with_module", [True, False])
async def test_nothing_is_left_and_the_receipt_counts_it(store, declared, monkeypatch, with_module):
    await furnish(store, ROBIN)
    if not with_module:
        forget_the_module(monkeypatch)
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert {name: receipt.counts[name] for name in ("notes", "drafts", "memories")} == {
        "notes": 2,
        "drafts": 1,
        "memories": 2,
    }
    assert (receipt.kept, receipt.orders_kept) == ({"bills": 1}, 0)
    assert await left(store, ROBIN) == {"bills": 1}
    assert await anywhere(store, "zeppelin", "a draft") == []
    assert await left(store, KIM) == await left(store, ELSEWHERE) == {"notes": 1}
    assert await store.db.rooms.count_documents({}) == 1, "a tenant's rooms are nobody's"
    assert (await receipts(store.db, ROBIN.tenant))[0] == receipt


async def test_somebody_of_whom_only_that_is_there_is_known_and_erased(store, declared, monkeypatch):
    forget_the_module(monkeypatch)
    assert await is_known(store.db, KIM)
    asked = []
    done = await erase_known(store.db, KIM, by="Sam", confirm=asked.append)
    assert asked[0].found["notes"] == 1
    assert done.receipt.counts["notes"] == 1
    assert not await is_known(store.db, KIM)


async def test_what_stays_is_said_and_alone_is_no_reason_to_erase(store, declared):
    await erase(store.db, ROBIN, by="Sam")
    done = await erase_known(store.db, ROBIN, by="Sam", confirm=lambda _: pytest.fail("nothing is erased"))
    assert (done.erased, done.kept, done.found["notes"]) == (False, {"bills": 1}, 0)
    with pytest.raises(NotFoundError) as caught:
        await erase_known(store.db, UserScope(tenant_id="t", user_id="nobody"), by="Sam", confirm=lambda _: None)
    assert "notes, bills, drafts" in caught.value.why


async def test_it_works_when_the_collection_was_dropped(store, declared):
    await store.db.notes.drop()
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert (receipt.counts["notes"], receipt.counts["drafts"]) == (0, 1)


async def test_a_session_that_wrote_behind_an_erasure_leaves_nothing(store, declared):
    await erase(store.db, ROBIN, by="Sam")
    await of(store, ROBIN).insert({"nr": 9})
    await sweep_behind(store.db, ROBIN, "s-1")
    assert await left(store, ROBIN) == {"bills": 1}


async def test_a_declaration_of_orders_says_whether_they_are_erased(store):
    await furnish(store, ROBIN, orders=["1"])
    declare(Collection("orders", owner="person", key=("order_id",)))
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert (receipt.counts["orders"], receipt.orders_kept) == (1, 0)
    assert await left(store, ROBIN) == {}


# ---------------------------------------------------------------- export


@pytest.mark.parametrize("with_module", [True, False])
async def test_the_export_holds_what_is_declared_so(store, declared, monkeypatch, with_module):
    await of(store, ROBIN).insert({"nr": 0, "report": "mine", "at": datetime(2026, 12, 1, tzinfo=UTC)})
    if not with_module:
        forget_the_module(monkeypatch)
    found = await exported(store, ROBIN)
    assert found["notes"] == [
        {"nr": 0, "report": "mine", "at": "2026-12-01T00:00:00+00:00"},
        {"nr": 1, "text": "a note of robin in default"},
        {"nr": 2, "text": "zeppelin"},
    ]
    assert found["bills"] == [{"nr": 7, "sum": 3}]
    assert {"drafts", "rooms"}.isdisjoint(found)
    assert (await exported(store, KIM))["notes"] == [{"nr": 1, "text": "a note of kim in default"}]


# ---------------------------------------------------------------- merge


@pytest.mark.parametrize("with_module", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_guests_documents_become_the_logins(store, declared, monkeypatch, with_module, dry_run):
    if not with_module:
        forget_the_module(monkeypatch)
    before = await left(store, ROBIN), await left(store, KIM)
    merged = await merge_known(store.db, ROBIN, KIM, dry_run=dry_run, confirm=lambda *_: None)
    assert {name: number for name, number in merged.moved.items() if number} == {"notes": 1, "bills": 1, "drafts": 1}
    assert merged.doubles == {"notes": 1}, "both had a note 1: the login's is kept"
    if dry_run:
        assert (await left(store, ROBIN), await left(store, KIM)) == before
        return
    assert await left(store, ROBIN) == {}
    texts = [each["text"] async for each in store.db.notes.find(KIM.filter).sort("nr")]
    assert texts == ["a note of kim in default", "zeppelin"]
    assert await left(store, ELSEWHERE) == {"notes": 1}
    assert (await merge(store.db, ROBIN, KIM)).is_empty


@pytest.mark.parametrize("guest_is_newer", [True, False])
async def test_of_two_with_one_key_the_later_is_kept(store, guest_is_newer):
    declare(DRAFTS)
    await database_indexes.apply(store.db)
    for person, newer in ((ROBIN, guest_is_newer), (KIM, not guest_is_newer)):
        at = now() - timedelta(hours=1 if newer else 2)
        await of(store, person, "drafts").insert({"of": person.user_id, "updated_at": at})
    merged = await merge(store.db, ROBIN, KIM)
    assert (merged.doubles, merged.moved["drafts"]) == ({"drafts": 1}, int(guest_is_newer))
    (document,) = await of(store, KIM, "drafts").find()
    assert document["of"] == ("robin" if guest_is_newer else "kim")
    assert await left(store, ROBIN) == {}


# ---------------------------------------------------------------- profile fields


async def test_a_declared_field_is_a_field_like_ours(store, monkeypatch):
    declare(TIER)
    await database_indexes.apply(store.db)
    assert await store.users.set_field(ROBIN, "loyalty_tier", " Gold ") == "gold"
    await store.users.set_field(ROBIN, "name", "Robin")
    profile = await store.users.get(ROBIN)
    assert profile.values == {"name": "Robin", "loyalty_tier": "gold"}
    for value in ("tin", "", "x" * 201):
        with pytest.raises(InvalidTextError):
            await store.users.set_field(ROBIN, "loyalty_tier", value)
    with pytest.raises(InvalidTextError, match="these are: name, email, preferred_language, timezone, loyalty_tier"):
        await store.users.set_field(ROBIN, "shoe_size", "43")
    forget_the_module(monkeypatch)
    assert (await exported(store, ROBIN))["profile"]["fields"] == {"loyalty_tier": "gold"}
    assert [(line.name, line.label, line.content) for line in await lines(store, ROBIN)] == [
        ("name", "Name", "Robin"),
        ("loyalty_tier", "Tier", "gold"),
    ]
    with pytest.raises(InvalidTextError):
        await store.users.set_field(ROBIN, "loyalty_tier", "gold")


async def test_a_secret_is_no_value_of_a_field(store):
    declare(ProfileField("motto"))
    with pytest.raises(SecretError):
        await store.users.set_field(ROBIN, "motto", "my card is 4111 1111 1111 1111")


async def test_a_value_whose_field_is_declared_no_more_is_kept_exported_merged_and_forgotten(store, monkeypatch):
    declare(TIER)
    await store.users.set_field(ROBIN, "loyalty_tier", "gold")
    forget_the_module(monkeypatch)
    await store.users.seen(ROBIN)
    assert (await merge(store.db, ROBIN, KIM)).filled == ["fields.loyalty_tier"]
    assert (await store.users.get(KIM)).values == {"loyalty_tier": "gold"}
    assert (await exported(store, KIM))["profile"]["fields"] == {"loyalty_tier": "gold"}
    found = await forget_known(store, KIM, profile=True, confirm=lambda _: None)
    assert found.profile_fields == ["loyalty_tier"]
    assert (await store.users.get(KIM)).values == {}
    assert await anywhere(store, "gold") == []


async def test_the_logins_value_stays_when_both_have_one(store):
    declare(TIER)
    await store.users.set_field(ROBIN, "loyalty_tier", "gold")
    await store.users.set_field(KIM, "loyalty_tier", "silver")
    await merge(store.db, ROBIN, KIM)
    assert (await store.users.get(KIM)).values == {"loyalty_tier": "silver"}


async def test_one_line_of_the_page_is_forgotten(store):
    declare(TIER)
    await store.users.set_field(ROBIN, "name", "Robin")
    await store.users.set_field(ROBIN, "loyalty_tier", "gold")
    await forget_line(store, ROBIN, "profile", "loyalty_tier")
    assert (await store.users.get(ROBIN)).values == {"name": "Robin"}
    with pytest.raises(NotFoundError):
        await forget_line(store, ROBIN, "profile", "loyalty_tier")


async def test_a_process_without_the_declaration_stores_what_another_has_checked(store):
    """As recovery does, on a host without the module."""
    assert await store.users.set_field_if_newer(ROBIN, "loyalty_tier", "gold", now())
    assert not await store.users.set_field_if_newer(ROBIN, "loyalty_tier", "silver", now() - timedelta(hours=1))
    assert not await store.users.fill_field(ROBIN, "loyalty_tier", "silver", now())
    assert (await store.users.get(ROBIN)).values == {"loyalty_tier": "gold"}
    for field in ("$set", "a.b", "Is Admin"):
        with pytest.raises(InvalidTextError):
            await store.users.set_field_if_newer(ROBIN, field, "yes", now())


# ---------------------------------------------------------------- orders of another shape


class Parcel(BaseModel):
    order_id: str
    status: str
    carrier: str
    due: datetime
    stops: list[str] = []


async def test_further_fields_of_an_order_are_told_when_they_are_declared(caplog):
    document = {
        "order_id": "1",
        "status": "sent",
        "carrier": "DHL",
        "due": datetime(2026, 12, 1, tzinfo=UTC),
        "stops": ["Kiel", "Ulm"],
        "margin": 3,
    }
    assert read_order(document).more == {}
    caplog.clear()
    declare(Collection("orders", owner="person", key=("order_id",), document=Parcel))
    order = read_order(document)
    assert (order.status, order.more) == ("sent", {"carrier": "DHL", "due": "2026-12-01", "stops": "Kiel, Ulm"})
    assert caplog.text == "", "it lacks items and a total because it has none"
    read_order(document | {"status": []})
    assert "status is a list" in caplog.text
