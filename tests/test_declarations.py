"""Declarations: what cannot be one is named, and so is the field of a document that does not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lkmongo import declarations
from lkmongo.declarations import (
    ORDERS,
    Collection,
    DeclarationError,
    Declarations,
    ProfileField,
    ShapeError,
    declare,
    declare_agent,
    declared,
)
from lkmongo.errors import InvalidTextError, SettingsError


class Guest(BaseModel):
    name: str


class Table(BaseModel):
    table_id: str = Field(alias="table")
    at: datetime
    guests: list[Guest] = []
    note: str | None = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    seat: int


def table(**options):
    given = {"owner": "person", "key": ("table",), "document": Table}
    return Collection("tables", **(given | options))


class Scoped(BaseModel):
    user_id: str


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("9lives", {}, "'9lives' cannot be the name of a collection"),
        ("a.b", {}, "'a.b' cannot be"),
        ("$cmd", {}, "'$cmd' cannot be"),
        ("x" * 65, {}, "cannot be the name"),
        ("users", {}, "the collection users is a name of lkmongo's own"),
        ("Turns", {}, "the collection Turns is a name of lkmongo's own"),
        ("calls", {}, "a name of lkmongo's own"),
        ("knowledge", {}, "a name of lkmongo's own"),
        ("email", {}, "a name of lkmongo's own"),
        ("cats", {"owner": "user"}, "the collection cats cannot belong to 'user'"),
        ("cats", {"key": "cat_id"}, "the collection cats has the key 'cat_id'"),
        ("cats", {"key": ("a.b",)}, "cannot have 'a.b' in its key"),
        ("cats", {"key": ("user_id",)}, "has user_id in its key"),
        ("cats", {"key": ("$where",)}, "cannot have '$where' in its key"),
        ("cats", {"indexes": "at"}, "has indexes that are text"),
        ("cats", {"indexes": [("tenant_id", "at")]}, "has tenant_id in its indexes"),
        ("cats", {"owner": "shared", "key": ()}, "is shared and has no key"),
        ("cats", {"owner": "tenant", "unique_within": "tenant"}, "has unique_within, which is for"),
        ("cats", {"key": (), "unique_within": "tenant"}, "has unique_within, but no key"),
        ("cats", {"seed": "users.yaml"}, "cannot have the seed 'users.yaml'"),
        ("cats", {"seed": "../cats.yaml"}, "cannot have the seed '../cats.yaml'"),
        ("cats", {"seed": "cats.json"}, "cannot have the seed 'cats.json'"),
        ("cats", {"retention": timedelta(days=3)}, "has the retention datetime.timedelta(days=3)"),
        ("cats", {"retention": ("at", 3)}, "has the retention ('at', 3)"),
        ("cats", {"retention": ("at", timedelta(minutes=5))}, "has a retention of less than an hour"),
        ("cats", {"document": dict}, "has the document <class 'dict'>"),
        ("cats", {"document": Scoped, "key": ()}, "has a document with user_id"),
        ("cats", {"document": Table}, "the collection cats has no field cat_id"),
        ("cats", {"document": Table, "key": ("table",), "indexes": [("-age",)]}, "has no field age"),
        ("cats", {"document": Table, "key": ("table",), "retention": ("until", None)}, "has no field until"),
    ],
)
def test_a_declaration_that_cannot_be_is_named(name, options, said):
    with pytest.raises(DeclarationError) as caught:
        Collection(name, **({"owner": "person", "key": ("cat_id",)} | options))
    assert said in caught.value.message
    assert caught.value.hint


def test_a_document_is_checked_and_defaults_are_filled_in():
    assert table().checked({"table": "7", "at": "2026-12-01T10:00", "guests": [{"name": "Kim"}]}) == {
        "table": "7",
        "at": datetime(2026, 12, 1, 10),  # noqa: DTZ001 - as given
        "guests": [{"name": "Kim"}],
    }
    assert Collection("cats", owner="person", key=()).checked({"any": {"shape": 1}, "none": None}) == {
        "any": {"shape": 1}
    }
    assert Collection("seats", owner="tenant", key=("seat",), document=Open).checked({"seat": 1, "row": "b"}) == {
        "seat": 1,
        "row": "b",
    }


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"table": 7, "at": "2026-12-01"}, "tables.table must be a valid string"),
        ({"table": "7"}, "tables has no at"),
        ({"table": "7", "at": "soon"}, "tables.at must be a valid datetime"),
        ({"table": "7", "at": "2026-12-01", "guests": [{}]}, "tables.guests[0] has no name"),
        (
            {"table": "7", "at": "2026-12-01", "gusts": []},
            "tables.gusts is not one of its fields; these are table, at,",
        ),
        (
            {"table": "7", "at": "2026-12-01", "guests": [{"name": "Kim", "phnoe": 1}]},
            "tables.guests[0].phnoe is not one of its fields; these are name",
        ),
        ({"table": "7", "at": "2026-12-01", "user_id": "u-1"}, "tables.user_id cannot be given; lkmongo adds"),
        ({"$set": {}}, "tables has a field named '$set'"),
        ({"a.b": 1}, "tables has a field named 'a.b'"),
    ],
)
def test_a_document_that_does_not_fit_names_the_field(document, said):
    with pytest.raises(ShapeError) as caught:
        table().checked(document)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "cats has no cat_id"),
        ({"cat_id": None}, "cats has no cat_id"),
        ({"cat_id": {"$gt": ""}}, "cats.cat_id must be text, a number or a date"),
        ({"cat_id": True}, "cats.cat_id must be text, a number or a date"),
    ],
)
def test_a_document_without_its_key_is_refused(document, said):
    with pytest.raises(ShapeError) as caught:
        Collection("cats", owner="person", key=("cat_id",)).checked(document)
    assert caught.value.message == said


def test_a_document_that_belongs_to_nobody_holds_no_persons_id():
    for owner in ("tenant", "shared"):
        with pytest.raises(ShapeError, match="user_id cannot be given"):
            Collection("cats", owner=owner, key=("cat_id",)).checked({"cat_id": 1, "user_id": "u-1"})


def test_one_field_is_checked_as_the_document_is():
    assert table().checked_field("at", "2026-12-01T10:00") == datetime(2026, 12, 1, 10)  # noqa: DTZ001 - as given
    assert table().checked_field("guests.0.name", 3) == 3, "a part of a field is not"
    for path, value in (("at", "soon"), ("user_id", "u-2"), ("_id", 1), ("gusts", 1), ("$inc", 1)):
        with pytest.raises(ShapeError):
            table().checked_field(path, value)


@pytest.mark.parametrize(
    "collection",
    [
        ORDERS,
        Collection("cats", owner="shared", key=("cat_id",), indexes=["-age", ("a", "-b.c")], exported=False),
        table(retention=("at", timedelta(days=3)), erased=False, document=None),
        table(retention=("at", None), document=None, unique_within="tenant", seed="t.yml"),
    ],
)
def test_what_is_stored_reads_back(collection):
    assert Collection.of_stored(collection.name, collection.stored) == collection


def test_a_field_that_is_stored_reads_back():
    field = ProfileField("loyalty_tier", words="tier", choices=["gold"], max_length=9)
    assert ProfileField.of_stored("loyalty_tier", field.stored) == field


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Loyalty Tier", {}, "cannot be the name of a profile field"),
        ("email", {}, "the profile has a email of lkmongo's own"),
        ("memories", {}, "of lkmongo's own"),
        ("a.b", {}, "cannot be the name"),
        ("tier", {"choices": "gold"}, "the choices of the profile field tier are 'gold'"),
        ("tier", {"choices": [1]}, "the choices of the profile field tier are [1]"),
        ("tier", {"max_length": 0}, "cannot have 0 characters"),
        ("tier", {"max_length": 201}, "cannot have 201 characters"),
    ],
)
def test_a_field_that_cannot_be_is_named(name, options, said):
    with pytest.raises(DeclarationError) as caught:
        ProfileField(name, **options)
    assert said in caught.value.message


def test_a_value_is_accepted_as_it_is_stored_or_refused_with_a_sentence():
    tier = ProfileField("loyalty_tier", choices=("gold", "silver"))
    assert tier.accept("GOLD") == "gold"
    with pytest.raises(InvalidTextError, match="the loyalty tier is one of gold, silver, not tin"):
        tier.accept("tin")
    with pytest.raises(InvalidTextError, match="the loyalty tier has 3 characters; 2 are allowed"):
        ProfileField("loyalty_tier", max_length=2).accept("tin")

    def even(text):
        if int(text) % 2:
            raise ValueError("it must be even")
        return str(int(text))

    assert ProfileField("shoe", check=even).accept("042") == "42"
    with pytest.raises(InvalidTextError, match="it must be even"):
        ProfileField("shoe", check=even).accept("43")


def test_one_file_seeds_one_collection():
    with pytest.raises(DeclarationError, match=r"cats and dogs have one seed, pets\.yaml"):
        Declarations.of([Collection(name, owner="tenant", key=("id",), seed="pets.yaml") for name in ("cats", "dogs")])
    Declarations.of([Collection("orders", owner="person", key=("nr",), seed="orders.yaml")])
    with pytest.raises(DeclarationError, match=r"orders and bills have one seed, orders\.yaml"):
        Declarations.of([Collection("bills", owner="person", key=("nr",), seed="orders.yaml")])


def test_the_last_declaration_of_a_name_counts():
    declare(table(), ProfileField("tier"))
    declare(table(erased=False))
    assert declared().collections["tables"].erased is False
    assert list(declared().fields) == ["tier"]
    assert declared().collections["orders"] is ORDERS
    with pytest.raises(DeclarationError, match="'tables' is not a declaration"):
        declare("tables")


def test_the_module_of_the_agent_declares_by_itself_and_in_lists(tmp_path, monkeypatch):
    (tmp_path / "my_salon.py").write_text(
        "from lkmongo.declarations import ORDERS, Collection, ProfileField\n"
        "CATS = Collection('cats', owner='tenant', key=('id',))\n"
        "more = [Collection('dogs', owner='tenant', key=('id',)), ProfileField('tier')]\n"
        "class Agent: pass\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    declare_agent(None)
    assert not declared()
    declare_agent("my_salon:Agent")
    assert (set(declared().own), set(declared().fields)) == ({"cats", "dogs"}, {"tier"})
    with pytest.raises(SettingsError, match="my_salon has no Nobody"):
        declare_agent("my_salon:Nobody")


def test_a_declaration_that_is_wrong_is_told_as_the_modules(tmp_path, monkeypatch):
    (tmp_path / "wrong_salon.py").write_text(
        "from lkmongo.declarations import Collection\nX = Collection('users', owner='person', key=())\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(SettingsError) as caught:
        declare_agent("wrong_salon:Agent")
    assert "users is a name of lkmongo's own" in caught.value.why


def test_every_collection_and_subject_of_lkmongo_is_reserved():
    from lkmongo.store.indexes.database_indexes import SUBJECTS
    from lkmongo.store.mongo.schema import COLLECTIONS

    assert {*COLLECTIONS, *SUBJECTS} - {"orders"} <= declarations._RESERVED


def test_times_are_in_utc():
    from lkmongo.store.people.own import storable

    assert storable(datetime(2026, 12, 1, 10)) == datetime(2026, 12, 1, 10, tzinfo=UTC)  # noqa: DTZ001 - on purpose
