"""Telephone numbers as a network says them: one form of each, or none at all."""

from __future__ import annotations

import pytest

from lkmongo.phone_numbers import (
    DIALLED,
    NUMBER,
    PhoneNumber,
    PhoneNumberError,
    dialled_number,
    masked,
    number_of_caller,
    parse_number,
)

ROBIN = "+493012345678"


@pytest.mark.parametrize(
    "said",
    [
        ROBIN,
        "+49 (0)30 12345678",
        "00493012345678",
        "030 12345678",
        "493012345678",
        '"+49 30 12345678"',
        f"sip:{ROBIN}@10.0.0.1:5060;user=phone",
        f"<sip:{ROBIN}@example.com>",
        f'"Robin 2" <sip:{ROBIN}@example.com>',
        f"tel:{ROBIN}",
    ],
)
def test_however_the_network_writes_it_the_number_is_the_same(said):
    assert number_of_caller({NUMBER: said}, "sip_x", "DE") == PhoneNumber(ROBIN)


def test_the_country_of_a_number_without_one_is_that_of_the_number_dialled():
    assert number_of_caller({NUMBER: "0171 2345678", DIALLED: "+4930999999"}, "x") == PhoneNumber("+491712345678")
    assert number_of_caller({NUMBER: "212 555 0123", DIALLED: "+1 646 555 0100"}, "x") == PhoneNumber("+12125550123")
    assert number_of_caller({NUMBER: "0171 2345678"}, "x") == "withheld"
    assert dialled_number({DIALLED: "+4930999999"}) == PhoneNumber("+4930999999")
    assert dialled_number({}) is None


def test_an_extension_is_another_number():
    with_extension = number_of_caller({NUMBER: f"{ROBIN};ext=12"}, "x")
    assert with_extension == number_of_caller({NUMBER: f"{ROBIN} ext. 12"}, "x") == PhoneNumber(f"{ROBIN};ext=12")
    assert with_extension != PhoneNumber(ROBIN)


@pytest.mark.parametrize(
    "said",
    [
        *("", " ", "anonymous", "Anonymous", "Restricted", "unavailable", "Private"),
        *("anonymous@anonymous.invalid", "sip:anonymous@anonymous.invalid", '"Anonymous" <sip:anonymous@x>'),
        *("4711", "110", "reception", "+1234", "+999999999999999999"),
        *(
            "alice12345678",
            "12345678alice",
            "u-100",
            "phone-4930123456",
            "1-800-FLOWERS",
            "sip:bob12345678@example.com",
        ),
    ],
)
def test_what_is_withheld_or_none_is_no_number(said):
    assert number_of_caller({NUMBER: said}, f"sip_{ROBIN}", "DE") == "withheld"


@pytest.mark.parametrize("text", ["alice12345678", "u-100", "phone-+49301234567", "+", "9" * 5000, "+" + "4" * 5000])
def test_a_name_with_digits_in_it_is_not_taken_for_a_number(text):
    with pytest.raises(PhoneNumberError):
        parse_number(text, "DE")


def test_a_number_may_be_written_in_letters_and_in_other_digits():
    assert parse_number("1-800-FLOWERS", "US") == PhoneNumber("+18003569377")
    assert parse_number("\uff0b\u0664\u0669\u0663\u0660\u0661\u0662\u0663\u0664\u0665\u0666") == PhoneNumber(
        "+4930123456"
    )


def test_one_without_its_area_is_not_taken_for_a_number():
    assert number_of_caller({NUMBER: "555 0123"}, "x", "US") == "withheld"


@pytest.mark.parametrize("identity", [f"sip_{ROBIN}", "sip_493012345678", f"sip_{ROBIN}@example.com"])
def test_the_identity_has_it_where_no_attribute_does(identity):
    assert number_of_caller({}, identity) == PhoneNumber(ROBIN)


@pytest.mark.parametrize(
    "identity",
    [
        "caller-1",
        ROBIN,
        "sip_",
        "sip_anonymous",
        "sip_1234567890abcdef",
        "sip_49301234567abcde",
        "sip_1234567890123456",
    ],
)
def test_an_identity_of_another_kind_says_nothing_yet(identity):
    """LiveKit makes the identity of a hidden number from its hash, which may begin like a number."""
    assert number_of_caller({}, identity, "DE") is None


def test_neither_messages_nor_what_is_shown_have_the_number():
    with pytest.raises(PhoneNumberError) as raised:
        parse_number("0171 2345678x")
    assert "2345678" not in f"{raised.value} {raised.value.why} {raised.value.hint}"
    assert repr(PhoneNumber(ROBIN)) == "PhoneNumber(…78)"
    assert masked(f"sip_{ROBIN}: busy, {ROBIN}") == "sip_…78: busy, …78"
    assert masked(f"call_{ROBIN}_Xv3k") == "call_…78_Xv3k"
    assert masked("call-_493012345678_a1B2c3D4e5F6") == "call-_…78_a1B2c3D4e5F6"
    assert masked("call_1796082188_room") == "call_1796082188_room"
    assert masked("sip_03012345678") == "sip_…78"
    assert masked("conf_20261130, sip_1234567890abcdef") == "conf_20261130, sip_1234567890abcdef"
