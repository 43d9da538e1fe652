"""Which trunk and which rule a call comes under, as LiveKit chooses them."""

from __future__ import annotations

import pytest

from lkmongo.telephony import Telephony, is_open, plain_number
from tests.test_phone_setup import AGENT, DIRECT, INDIVIDUAL, ONE, TWO, callee, rule, theirs, trunk


@pytest.mark.parametrize(
    ("written", "plain"),
    [(ONE, ONE), ("49301234567", ONE), ("+49 (30) 123-4567", ONE), ("", ""), ("reception", "reception")],
)
def test_a_number_in_one_form(written, plain):
    assert plain_number(written) == plain


@pytest.mark.parametrize(
    ("inbound", "taken_by"),
    [
        ([], None),
        ([theirs(numbers=[TWO])], None),
        ([theirs(numbers=[]), trunk()], "ST_ours"),
        ([theirs(numbers=[])], "ST_theirs"),
        ([theirs(allowed_numbers=["+1"]), trunk()], "ST_ours"),
        ([trunk(numbers=["49 30 1234567"])], "ST_ours"),
    ],
)
def test_the_trunk_of_a_number(inbound, taken_by):
    found = Telephony(inbound).trunk_of(ONE)
    assert (found.sip_trunk_id if found else None) == taken_by


ALL = rule("SDR_all", trunks=[])
OURS = rule()


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([], None),
        ([rule(trunks=["ST_theirs"])], None),
        ([ALL], "SDR_all"),
        ([ALL, OURS], "SDR_ours"),
        ([OURS, rule("SDR_no", numbers=[ONE])], "SDR_no"),
        ([OURS, rule("SDR_no", numbers=[TWO])], "SDR_ours"),
        ([OURS, rule("SDR_one", rule=DIRECT)], "SDR_one"),
        ([OURS, rule("SDR_pin", rule=callee(pin="1"))], "SDR_pin"),
        ([rule("SDR_pin", rule=INDIVIDUAL), rule("SDR_one", rule=DIRECT)], "SDR_pin"),
        ([OURS, rule("SDR_some", rule=DIRECT, inbound_numbers=[TWO])], "SDR_ours"),
    ],
    ids=[
        "none",
        "of another trunk",
        "of all",
        "its own",
        "of the number",
        "of another",
        "direct",
        "pin",
        "pins",
        "some",
    ],
)
def test_the_rule_of_a_call(rules, chosen):
    found = Telephony([trunk()], rules=rules).rule_of("ST_ours", ONE)
    assert (found.sip_dispatch_rule_id if found else None) == chosen


def test_the_rules_that_send_an_agent():
    there = Telephony(rules=[rule("SDR_1", agents=["x"]), rule("SDR_2", agents=["x", AGENT])])
    assert [each.sip_dispatch_rule_id for each in there.rules_that_send(AGENT)] == ["SDR_2"]


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ({}, True),
        ({"allowed_addresses": ["192.0.2.0/24"]}, False),
        ({"auth_username": "bob", "auth_password": "x"}, False),
        ({"auth_username": "bob"}, True),
        ({"allowed_numbers": [TWO]}, True),
    ],
)
def test_a_trunk_that_takes_calls_from_anywhere(fields, is_one):
    assert is_open(trunk(**fields)) is is_one
