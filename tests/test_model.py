"""Ids and labels: nothing unchecked gets past them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.errors import InvalidIdError, InvalidTextError
from lkmongo.model import TenantScope, UserScope, check_content, clean, slot_name, slot_words


@pytest.mark.parametrize(
    "value",
    [None, 42, True, b"u-100", [], {}, {"$gt": ""}, ["u-100"], "", " ", " u", "u\n", "u\x00", "u\x1b[31m", "a" * 129],
)
def test_what_cannot_be_an_id_makes_no_identity(value):
    with pytest.raises(InvalidIdError):
        UserScope(tenant_id="default", user_id=value)
    with pytest.raises(InvalidIdError):
        UserScope(tenant_id=value, user_id="u-100")
    with pytest.raises(InvalidIdError):
        TenantScope(value)


class Sly(str):
    """A string whose comparison lies."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


def test_an_identity_holds_plain_strings_only():
    scope = UserScope(tenant_id="default", user_id=Sly("u-100"))
    assert type(scope.user_id) is str


def test_an_identity_cannot_be_changed():
    with pytest.raises(AttributeError):
        UserScope(tenant_id="default", user_id="u-100").user_id = "u-200"


@given(st.text(max_size=200))
def test_an_identity_keeps_exactly_what_it_was_given_or_refuses(text):
    try:
        scope = UserScope(tenant_id="default", user_id=text)
    except InvalidIdError:
        return
    assert scope.filter == {"tenant_id": "default", "user_id": text}
    assert 0 < len(text) <= 128
    assert text.strip() == text


def test_two_guests_are_two_people():
    assert UserScope.guest() != UserScope.guest()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Favorite Color", "favorite_color"),
        ("favorite_color", "favorite_color"),
        ("favoriteColor", "favorite_color"),
        ("  favorite - color!  ", "favorite_color"),
        ("FAVORITE_COLOR", "favorite_color"),
        ("iPhone model", "iphone_model"),
        ("mother's name", "mothers_name"),
        ("Lieblingsfarbe", "lieblingsfarbe"),
        ("好きな色", "好きな色"),
    ],
)
def test_spellings_of_a_label_are_one_slot(label, name):
    assert slot_name(label) == name


@pytest.mark.parametrize("label", ["", " ", "___", "!?", "a" * 65, None, 5, {"$ne": 1}])
def test_what_cannot_be_a_label_is_refused(label):
    with pytest.raises(InvalidTextError):
        slot_name(label)


@given(st.text(max_size=80))
def test_a_slot_name_is_stable_and_within_its_bounds(label):
    try:
        name = slot_name(label)
    except InvalidTextError:
        return
    assert slot_name(name) == name
    assert slot_name(slot_words(name)) == name
    assert 0 < len(name) <= 64
    assert not name.startswith("$")


@pytest.mark.parametrize("content", ["", "  ", "a" * 4_001, None, {"$set": 1}])
def test_what_cannot_be_remembered_is_refused(content):
    with pytest.raises(InvalidTextError):
        check_content(content)


def test_lone_surrogates_do_not_get_through():
    assert check_content("a\ud800b") == "a\ufffdb"
    assert clean({"k\udfff": ["\ud800", {"x": 1}]}) == {"k\ufffd": ["\ufffd", {"x": 1}]}
