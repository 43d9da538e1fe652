"""What must not be stored is masked or dropped as the tenant's policy says, however it is told, and nothing else is."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lkmongo.confidential import WITHHELD
from lkmongo.detectors.numbers import is_steuer_id
from lkmongo.errors import MissingExtraError, SecretError, SettingsError
from lkmongo.redaction import POLICY, Redaction, Redactor
from lkmongo.settings import Settings
from tests.spoken_numbers import CARRIERS, cards, ibans, said, ssns
from tests.test_confidential import INNOCENT, lines

STRICT = dict.fromkeys(POLICY, "mask")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("my card is 4111 1111 1111 1111, thanks", "my card is [card ending 1111], thanks"),
        ("four one one one, um, one one one one uh one one one one, one one one one", "[card ending 1111]"),
        ("double five double five five five five five, five five five five four four four four", "[card ending 4444]"),
        ("forty-one eleven eleven eleven eleven eleven eleven eleven please", "[card ending 1111] please"),
        ("my card number is 4111 1111 1111 1111 123", "my card number is [card ending 1111]"),
        ("4111-1111-1111-1111 is mine", "[card ending 1111] is mine"),
        ("4111 1111 1111 111 one is mine", "[card ending 1111] is mine"),
        ("my card number is 4929 0000 01", "my card number is [card]"),
        ("ssn 078-05-1120", "ssn [national id]"),
        ("one two three, four five, six seven eight nine", "[national id]"),
        ("my national insurance is QQ 12 34 56 C", "my national insurance is [national id]"),
        ("AB123456C is on the letter", "[national id] is on the letter"),
        ("meine Steuer-ID ist 86 095 742 719", "meine Steuer-ID ist [national id]"),
        ("86095742719", "[national id]"),
        ("2 55 08 14 168 025 38", "[national id]"),
        ("mi DNI es 12345678Z", "mi DNI es [national id]"),
        ("X1234567L", "[national id]"),
        ("RSSMRA85T10A562S", "[national id]"),
        ("r s s m r a eight five t one zero a five six two s", "[national id]"),
        ("mijn BSN is 111222333", "mijn BSN is [national id]"),
        ("529.982.247-25", "[national id]"),
        ("2341 2341 2346", "[national id]"),
        ("send it to DE89 3704 0044 0532 0130 00 today", "send it to [bank account] today"),
        ("d e eight nine three seven zero four zero zero four four zero five three two zero one three zero zero zero",
         "[bank account]"),
        ("my pin is 1234 and the order is 4711", "my pin is [secret] and the order is 4711"),
        ("meine PIN ist eins zwei drei vier danke", "meine PIN ist [secret] danke"),
        ("swordfish is my password", "[secret] is my password"),
        ("my\u00a0pin\u2009is\u00a0\uff11\uff12\uff13\uff14", "my\u00a0pin\u2009is\u00a0[secret]"),
        ("robin dot fletcher at example dot com, please", "[e-mail address], please"),
        ("Robin.Fletcher@example.co.uk", "[e-mail address]"),
        ("call me on 0151 2345 6789", "call me on [phone number]"),
        ("plus four nine one five one one two three four five six seven eight", "[phone number]"),
        ("(415) 555-2671 works", "[phone number] works"),
    ],
)  # fmt: skip
def test_each_kind_is_masked_where_it_stands(text, kept):
    assert Redactor(STRICT).text(text) == kept


NOT_PHONES = [text for text in lines(INNOCENT) if not any(word in text for word in ("phone", "call me on", "call me at",
                                                                                    "mobile"))]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        *NOT_PHONES,
        *("order A-1001", "order 4711, please", "extension 4711", "it costs 1,234.50 euros", "at 10:30 on 2026-01-12"),
        *("look at example dot com", "meet me at the cafe dot", "we were three to four people at home"),
    ],
)
def test_numbers_of_other_things_stay_under_the_strictest_policy(text):
    assert Redactor(STRICT).text(text) == text


@pytest.mark.parametrize(
    ("number", "is_one"),
    [("86095742719", True), ("86095742718", False), ("12345678912", False), ("11111111111", False)],
)
def test_a_number_that_fails_its_check_is_none(number, is_one):
    assert is_steuer_id(number) is is_one
    assert (Redactor(STRICT).text(number) == "[national id]") is is_one


def test_by_default_phone_numbers_and_addresses_are_kept():
    text = "I'm robin@example.com, +49 151 23456789"
    assert Redactor().text(text) == text
    assert {kind for kind, action in POLICY.items() if action == "mask"} == {
        "card", "national_id", "bank_account", "secret",
    }  # fmt: skip


def test_what_is_dropped_leaves_nothing_and_is_counted():
    redactor = Redactor({**POLICY, "card": "drop", "secret": "keep"})
    assert redactor.text("pay 4111 1111 1111 1111, my pin is 1234") == "pay , my pin is 1234"
    assert redactor.counts == {"card": 1}


# ------------------------------------------------------------------ properties


def digits_of(text):
    return "".join(char for char in text if char.isdigit())


@given(cards(), st.sampled_from(CARRIERS), said())
@example("5524606389325507", "it is {} okay", str)  # as IS55, with the remainder of an IBAN, but shorter than Iceland's
def test_no_card_number_survives_however_it_is_said(number, carrier, how):
    kept = Redactor().text(carrier.format(how(number)))
    assert f"[card ending {number[-4:]}]" in kept
    assert len(digits_of(kept.replace("A-1001", ""))) <= 4
    assert Redactor().text(kept) == kept


@given(ibans(), st.sampled_from(CARRIERS), said(letters=True))
def test_no_iban_survives(number, carrier, how):
    kept = Redactor().text(carrier.format(how(number)))
    assert "[bank account]" in kept
    assert digits_of(kept.replace("A-1001", "")) == ""
    assert Redactor().text(kept) == kept


@given(ssns(), st.sampled_from(["-", " ", ", "]), st.booleans())
def test_no_social_security_number_survives(groups, between, spoken):
    from tests.spoken_numbers import words

    text = between.join(groups) if not spoken else ", ".join(map(words, groups))
    kept = Redactor().text(f"it is {text}, yes")
    assert kept == "it is [national id], yes"


@given(st.text(max_size=120))
def test_redacting_twice_is_redacting_once(text):
    redactor = Redactor(STRICT)
    once = redactor.text(text)
    assert redactor.text(once) == once


WORDS = st.lists(
    st.sampled_from(
        [
            *"my pin password is 1234 4111 1111 card number [secret] and hunter2 IBAN DE89 at example dot com".split(),
            *"four one double . , : phone 0151 23456789 swordfish it's".split(),
            "[card ending 1111]",
        ]
    ),
    max_size=14,
).map(" ".join)


@given(WORDS)
def test_redacting_twice_is_redacting_once_among_words_that_mean_something(text):
    redactor = Redactor(STRICT)
    once = redactor.text(text)
    counted = dict(redactor.counts)
    assert redactor.text(once) == once
    assert redactor.counts == counted


# ------------------------------------------------------------------ nested values


def test_json_is_redacted_by_its_keys_and_values_and_stays_json():
    given = {
        "pin": 1234,
        "cardNumber": "4111111111111111",
        "deep": [{"note": ["my ssn is 078-05-1120"], "text": json.dumps({"password": "abc"})}],
        "order_id": 123456789012,
        "total": 12.5,
        "paid": True,
        "none": None,
    }
    kept = json.loads(Redactor().json(json.dumps(given)))
    assert kept == given | {
        "pin": "[secret]",
        "cardNumber": "[card ending 1111]",
        "deep": [{"note": ["my ssn is [national id]"], "text": '{"password": "[secret]"}'}],
    }


def test_json_in_which_nothing_is_found_is_kept_to_the_byte():
    text = '{ "memory_type":"favorite_color",  "content": "t\\u00e9al" }'
    assert Redactor().json(text) == text
    assert Redactor().json('{"pin": 12') == '{"pin": 12'
    assert Redactor().json('{"my card is 4111111111111111": ') == '{"my card is [card ending 1111]": '


def test_json_that_is_nested_deeply_is_redacted_as_one_text():
    value = "4111111111111111"
    for _ in range(500):
        value = [value]
    assert "4111111111111111" not in str(Redactor().value(value))


# ------------------------------------------------------------------ policies, and detectors of one's own


def settings_with(tmp_path, policies, **more):
    (tmp_path / "tenants.yaml").write_text(policies)
    return Settings.load({"LKMONGO_TENANTS": str(tmp_path / "tenants.yaml"), **more})


def test_each_tenant_has_its_own_policy(tmp_path):
    settings = settings_with(
        tmp_path,
        "default: {redaction: {email: mask}}\ntenants: {shop: {redaction: {email: drop, card: keep}}, bar: {}}",
    )
    redaction = Redaction.of(settings)
    text = "a@example.com 4111111111111111"
    assert redaction.redactor("shop").text(text) == " 4111111111111111"
    assert redaction.redactor("bar").text(text) == "[e-mail address] [card ending 1111]"
    assert redaction.strictest.text(text) == " [card ending 1111]"


def test_a_kind_that_does_not_exist_is_an_error_that_lists_those_there_are(tmp_path):
    with pytest.raises(SettingsError, match=r"tenants.shop.redaction: there is no kind fone") as error:
        Redaction.of(settings_with(tmp_path, "tenants: {shop: {redaction: {fone: mask}}}"))
    assert "card, national_id, bank_account, secret, phone, email" in error.value.hint


def test_phone_numbers_need_an_extra_only_if_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    Redaction.of(settings_with(tmp_path, "default: {redaction: {phone: keep}}"))
    with pytest.raises(MissingExtraError, match="phone") as error:
        Redaction.of(settings_with(tmp_path, "default: {redaction: {phone: mask}}"))
    assert 'pip install "lkmongo[phone]"' in error.value.hint


@pytest.fixture
def own(monkeypatch):
    """A module with detectors of one's own."""
    module = ModuleType("own_detectors")
    module.members = lambda text: [(at, at + 6, "member_no") for at in [text.find("M-")] if at >= 0]
    module.broken = lambda text: 1 / (len(text) - len("tell nobody"))
    module.careless = lambda text: [(0, len(text) + 1, "member_no")]
    module.constant = 7
    monkeypatch.setitem(sys.modules, "own_detectors", module)
    return "own_detectors"


def test_a_detector_of_ones_own_adds_its_kinds(tmp_path, own):
    policies = "tenants: {shop: {redaction: {member_no: drop}}}"
    redaction = Redaction.of(settings_with(tmp_path, policies, LKMONGO_REDACTOR=f"{own}:members"))
    assert redaction.redactor("else").text("I am M-1234, my pin is 9988") == "I am [member no], my pin is [secret]"
    assert redaction.redactor("shop").text("I am M-1234") == "I am "


def test_the_example_in_the_documents_is_one(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "docs" / "examples"))
    redaction = Redaction.of(Settings.load({"LKMONGO_REDACTOR": "members:members"}))
    assert redaction.redactor("default").text("I am M-123456, order A-1001") == "I am [member no], order A-1001"


@pytest.mark.parametrize("name", ["broken", "careless"])
def test_a_detector_that_fails_has_the_text_withheld_and_the_log_does_not_hold_it(own, name, caplog):
    redactor = Redaction.of(Settings.load({"LKMONGO_REDACTOR": f"{own}:{name}"})).redactor("shop")
    with caplog.at_level(logging.DEBUG):
        assert redactor.text("tell nobody") == WITHHELD
    assert "LKMONGO_REDACTOR failed" in caplog.text
    assert "tell nobody" not in caplog.text
    assert redactor.counts == {"withheld": 1}
    with pytest.raises(SecretError):
        redactor.fact("note", "tell nobody")


@pytest.mark.parametrize("path", ["own_detectors:constant", "own_detectors:missing", "no_such_module:x"])
def test_a_detector_that_cannot_be_used_is_an_error_at_start(own, path):
    with pytest.raises(SettingsError, match="LKMONGO_REDACTOR"):
        Redaction.of(Settings.load({"LKMONGO_REDACTOR": path}))
