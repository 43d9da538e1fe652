"""The file of LKMONGO_TENANTS: the default, what a tenant has of its own, and every way in which it may be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.settings import Settings
from lkmongo.tenants import Limits, Tenants


def load(tmp_path: Path, text: str) -> Tenants:
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    return Settings.load({"LKMONGO_TENANTS": str(file)}).tenant_policies()


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
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, message: str):
    with pytest.raises(LkmongoError) as raised:
        load(tmp_path, text)
    assert "LKMONGO_TENANTS" in str(raised.value)
    assert message in str(raised.value)


def test_a_file_that_is_missing_is_an_error(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Tenants.load(tmp_path / "none.yaml")
