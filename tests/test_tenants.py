"""The file of LKMONGO_TENANTS: the default, what a tenant has of its own, and every way in which it may be wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lkmongo.errors import LkmongoError, MissingExtraError, SettingsError
from lkmongo.phone_numbers import parse_number
from lkmongo.settings import Settings
from lkmongo.tenants import Limits, Tenants
from lkmongo.trust import Level


def load(tmp_path: Path, text: str, **environ: str) -> Tenants:
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    return Settings.load({"LKMONGO_TENANTS": str(file), **environ}).tenant_policies()


def test_a_tenant_has_the_default_but_for_what_is_its_own(tmp_path: Path):
    tenants = load(tmp_path, "default: {consent: ask}\ntenants:\n  shop-1:\n  shop-2: {consent: assumed}\n")
    assert tenants.policy("shop-1").consent == "ask"
    assert tenants.policy("shop-2").consent == "assumed"
    assert tenants.policy("elsewhere").consent == "ask"


def test_without_a_file_consent_is_assumed():
    assert Settings.load({}).tenant_policies().policy("shop-1").consent == "assumed"


def test_limits_are_those_for_all_but_for_what_the_tenant_says_itself(tmp_path: Path):
    file = tmp_path / "tenants.yaml"
    file.write_text("default: {limits: {calls: 1}}\ntenants:\n  shop-1: {limits: {slots: 2000, call_length: 30m}}\n")
    settings = Settings.load({"LKMONGO_TENANTS": str(file), "LKMONGO_MAX_CHANGES": "7", "LKMONGO_MAX_BYTES": "200KB"})
    ours = Limits(changes=7, bytes=200_000, calls=1)
    assert settings.limits_of("elsewhere") == ours
    assert settings.limits_of("shop-1") == replace(ours, slots=2_000, call_length=timedelta(minutes=30))
    assert Settings.load({}).limits_of("shop-1") == Limits()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LKMONGO_MAX_SLOTS", "10001", "less than or equal to 10000"),
        ("LKMONGO_MAX_CALLS", "0", "greater than 0"),
        ("LKMONGO_MAX_MESSAGES", "many", "must be a whole number"),
        ("LKMONGO_MAX_BYTES", "2MB", "must be a size such as 500KB, from 10KB to 1MB"),
        ("LKMONGO_MAX_CALL_LENGTH", "60s", "must be two minutes or more"),
        ("LKMONGO_MAX_CALL_LENGTH", "long", "must be a duration such as 45m"),
    ],
)
def test_a_limit_that_cannot_be_is_named(name: str, value: str, message: str):
    with pytest.raises(SettingsError, match=f"^{name} .*{message}"):
        Settings.load({name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {consent: never}", "default.consent"),
        ("tenants: {shop-1: {consnet: ask}}", "tenants.shop-1.consnet"),
        ("tenants: {shop-1: {redaction: {phone: hide}}}", "tenants.shop-1.redaction.phone"),
        ("tenants: {shop-1: {limits: {slots: 0}}}", "tenants.shop-1.limits.slots"),
        ("default: {limits: {call_length: 5}}", "must be a duration"),
        ("tenant: {}", "tenant: "),
        ("- default", "must be a mapping"),
        ("default:\n  consent: [ask", ":2 is not YAML"),
        ("tenants: {'': {}}", "tenant"),
        ("default: {language: german!}", "default.language: must be the tag"),
        ("default: {language: no}", "quotation marks"),
        ("default: {voice: two words}", "default.voice: must be a voice"),
        ("default: {greeting: ' '}", "default.greeting: must be words to say"),
        ("default: {instructions: none.txt}", "default.instructions names"),
        ("tenants: {shop-1: {instructions: empty.txt}}", "which is empty"),
        ("tenants: {shop-1: {phone: {region: GER}}}", "tenants.shop-1.phone.region: must be the two letters"),
        ("tenants: {shop-1: {phone: {region: UK}}}", "tenants.shop-1.phone.region: must be the two letters"),
        ("tenants: {shop-1: {phone: {region: NO}}}", "quotation marks"),
        ("tenants: {shop-1: {phone: {recycled_after: 5h}}}", "must be a day or more"),
        ("tenants: {shop-1: {phone: {recycled_after: 5}}}", "must be a duration"),
        ("tenants: {shop-1: {phone: {levels: {plan: 2}}}}", "phone.levels.plan: must be one of recognised, named"),
        ("tenants: {shop-1: {phone: {levels: {'!': named}}}}", "must be a label or the name of a tool"),
        ("tenants: {shop-1: {phone: {levels: {plan: named, Plan: named}}}}", "two spellings"),
        ("tenants: {shop-1: {phone: {numbers: [+49301234567]}}}", "phone.numbers.0: must be in quotation marks"),
        ("tenants: {shop-1: {phone: {numbers: ['+49 30 1234567', '030 1']}}}", "tenants.shop-1.phone.numbers.1: 030 1"),
        ("tenants: {shop-1: {phone: {numbers: ['+49 30 1234567 ext 12']}}}", "has an extension"),
        ("default: {phone: {numbers: ['+49 30 1234567']}}", "default.phone.numbers"),
        (
            "tenants: {a: {phone: {numbers: ['+49 30 1234567']}}, b: {phone: {region: DE, numbers: [030 1234567]}}}",
            "tenants.b.phone.numbers.0: 030 1234567 is the number of a as well",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, message: str):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(LkmongoError) as raised:
        load(tmp_path, text)
    assert "LKMONGO_TENANTS" in str(raised.value)
    assert message in str(raised.value)


def test_a_file_that_is_missing_is_an_error(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Tenants.load(tmp_path / "none.yaml")


SHOPS = """\
default:
  phone: {region: DE, levels: {favorite_color: verified, plan: verified}}
  greeting: Hello, this is the shop.
  language: en
tenants:
  shop-1:
    phone: {numbers: [030 1234567, "+1 201 555 0123", "+49 (30) 123-4567"], recycled_after: 30d}
    instructions: texts/shop-1.txt
    greeting: |
      Guten Tag,
      hier ist der Laden.
    language: de_at
    voice: cartesia/sonic-3:anna
  shop-2:
    phone: {numbers: [01 12345678], region: at, levels: {Favorite Color: named, default: recognised}}
  shop-3:
"""


def test_a_tenant_has_numbers_in_one_form_and_is_found_by_them(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "shop-1.txt").write_text("\nYou sell hats.\n")
    tenants = load(tmp_path, SHOPS, LKMONGO_PHONE_REGION="us", LKMONGO_PHONE_RECYCLED_AFTER="52w")
    assert tenants.by_number
    assert tenants.policy("shop-1").phone.numbers == ("+49301234567", "+12015550123")
    assert tenants.policy("shop-2").phone.numbers == ("+43112345678",)
    assert tenants.policy("shop-3").phone.numbers == tenants.policy("elsewhere").phone.numbers == ()
    assert tenants.dialled(parse_number("+49 30 123 45 67")) == "shop-1"
    assert tenants.dialled(parse_number("+49 30 1234567;ext=3")) == "shop-1"
    assert tenants.dialled(parse_number("+43 1 12345678")) == "shop-2"
    assert tenants.dialled(parse_number("+43 1 12345679")) is None
    ids = ("shop-1", "shop-2", "shop-3", "elsewhere")
    assert [tenants.policy(each).phone.region for each in ids] == ["DE", "AT", "DE", "DE"]
    assert [tenants.policy(each).phone.recycled_after.days for each in ids] == [30, 364, 364, 364]


def test_a_tenant_speaks_as_it_says_itself_and_else_as_the_default(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "shop-1.txt").write_text("\nYou sell hats.\n")
    tenants = load(tmp_path, SHOPS)
    one, two = tenants.policy("shop-1"), tenants.policy("shop-2")
    assert (one.instructions, one.greeting) == ("You sell hats.", "Guten Tag, hier ist der Laden.")
    assert (one.language, one.voice) == ("de-AT", "cartesia/sonic-3:anna")
    assert (two.instructions, two.greeting) == (None, "Hello, this is the shop.")
    assert (two.language, two.voice) == ("en", None)


def test_a_label_in_any_spelling_and_a_tool_by_its_name_need_what_the_tenant_says(tmp_path: Path):
    tenants = load(tmp_path, "tenants: {a: {phone: {levels: {Favorite Color: verified, lookUpPlan: verified}}}}")
    assert tenants.needs("a").slot("favorite_color") == tenants.needs("a").tool("lookUpPlan") == Level.VERIFIED
    assert tenants.needs("b").slot("favorite_color") == Level.NAMED
    assert tenants.needs("b").tool("lookUpPlan") == Level.RECOGNISED


def test_levels_are_those_of_the_default_but_for_what_the_tenant_says_itself(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "shop-1.txt").write_text("You sell hats.")
    tenants = load(tmp_path, SHOPS)
    needs = tenants.needs("shop-2")
    assert (needs.slot("favorite_color"), needs.slot("plan"), needs.slot("city")) == (
        Level.NAMED,
        Level.VERIFIED,
        Level.RECOGNISED,
    )
    assert tenants.needs("elsewhere").slot("favorite_color") == Level.VERIFIED
    assert tenants.needs("elsewhere").slot("city") == Level.NAMED


def test_without_a_file_the_settings_hold_for_every_tenant():
    tenants = Settings.load({"LKMONGO_PHONE_REGION": "de"}).tenant_policies()
    assert not tenants.by_number
    assert (tenants.policy("a").phone.region, tenants.policy("a").phone.recycled_after.days) == ("DE", 180)


def test_numbers_need_the_extra_and_a_file_without_them_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    assert not load(tmp_path, "tenants: {a: {phone: {region: DE}}}").by_number
    with pytest.raises(MissingExtraError, match="extra phone"):
        load(tmp_path, "tenants: {a: {phone: {numbers: ['+49 30 1234567']}}}")
