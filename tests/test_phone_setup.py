"""What `lkmongo phone setup` plans and does: a table of what may be there, and a server as strict as LiveKit."""

from __future__ import annotations

import json

import pytest
from aiohttp.test_utils import TestServer
from livekit import api
from pydantic import SecretStr

from lkmongo import phone_setup
from lkmongo.errors import LkmongoError, NotFoundError, NotSupportedError
from lkmongo.phone_setup import Action, Wanted
from lkmongo.settings import LiveKitCredentials
from lkmongo.telephony import Telephony, read_telephony
from tests import livekit_api, sip_server

ONE, TWO = "+49301234567", "+49301234568"
AGENT = "lkmongo-agent"
MARK = json.dumps({"made_by": "lkmongo phone setup"})
WANTED = Wanted(numbers=(ONE,), agent_name=AGENT)


def trunk(key="ST_ours", name="lkmongo", numbers=(ONE,), metadata=MARK, **more):
    return api.SIPInboundTrunkInfo(sip_trunk_id=key, name=name, numbers=numbers, metadata=metadata, **more)


def theirs(**more):
    return trunk(**{"key": "ST_theirs", "name": "provider", "metadata": "", **more})


def callee(**more):
    return api.SIPDispatchRule(
        dispatch_rule_callee=api.SIPDispatchRuleCallee(**{"room_prefix": "call", "randomize": True, **more})
    )


def rule(key="SDR_ours", name="lkmongo", trunks=("ST_ours",), agents=(AGENT,), rule=None, **more):
    config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=each) for each in agents])
    kind = rule or callee()
    return api.SIPDispatchRuleInfo(
        sip_dispatch_rule_id=key, name=name, trunk_ids=trunks, rule=kind, room_config=config, **more
    )


INDIVIDUAL = api.SIPDispatchRule(dispatch_rule_individual=api.SIPDispatchRuleIndividual(room_prefix="mine", pin="77"))
DIRECT = api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="lobby"))


@pytest.mark.parametrize(
    ("inbound", "rules", "trunk_action", "rule_action", "said"),
    [
        pytest.param([], [], "create", "create", "", id="nothing is there"),
        pytest.param([trunk()], [rule()], "unchanged", "unchanged", "", id="all is there"),
        pytest.param([trunk()], [], "unchanged", "create", "", id="the rule is missing"),
        pytest.param(
            [trunk(numbers=["49 30 123-4567"])], [rule()], "unchanged", "unchanged", "", id="written otherwise"
        ),
        pytest.param(
            [trunk(numbers=[TWO])], [rule()], "update", "unchanged", f"{ONE} is added; {TWO} is taken", id="no."
        ),
        pytest.param([trunk(metadata="")], [], "blocked", "create", "ST_ours (lkmongo), which is not of", id="no mark"),
        pytest.param([trunk(metadata="[]")], [], "blocked", "create", "is not of", id="other metadata"),
        pytest.param([trunk(name="x")], [], "blocked", "create", "the number …67 is on the trunk", id="another name"),
        pytest.param([theirs(numbers=[TWO])], [], "create", "create", "", id="another number of others"),
        pytest.param([theirs(numbers=[])], [], "create", "create", "", id="others take all other numbers"),
        pytest.param([theirs(allowed_numbers=["+1"])], [], "create", "create", "", id="others take some callers"),
        pytest.param(
            [trunk(allowed_numbers=["+1"]), theirs()], [], "unchanged", "create", "", id="we take some callers"
        ),
        pytest.param(
            [trunk()], [rule(hide_phone_number=True)], "unchanged", "update", "shows the caller's", id="hides"
        ),
        pytest.param([trunk()], [rule(rule=INDIVIDUAL)], "unchanged", "update", "named by the number", id="individual"),
        pytest.param([trunk()], [rule(rule=DIRECT)], "unchanged", "update", "a room of its own", id="one room for all"),
        pytest.param(
            [trunk()], [rule(rule=callee(randomize=False))], "unchanged", "update", "a room of", id="together"
        ),
        pytest.param(
            [trunk()], [rule(rule=callee(room_prefix="x", pin="1"))], "unchanged", "unchanged", "", id="tuned"
        ),
        pytest.param([trunk()], [rule(agents=["x"])], "unchanged", "update", f"sends {AGENT} instead of x", id="agent"),
        pytest.param([trunk()], [rule(agents=[])], "unchanged", "update", "instead of nobody", id="no agent"),
        pytest.param([trunk()], [rule(trunks=["ST_gone"])], "unchanged", "update", "the trunk", id="its trunk is gone"),
        pytest.param([], [rule()], "create", "update", "the trunk", id="the trunk was deleted"),
        pytest.param(
            [trunk()], [rule(trunks=["ST_gone", "ST_ours"])], "unchanged", "update", "the trunk", id="one gone"
        ),
        pytest.param([trunk()], [rule(name="x")], "unchanged", "unchanged", "made elsewhere", id="their rule will do"),
        pytest.param(
            [trunk()], [rule(name="x", agents=["y"])], "unchanged", "blocked", "does not send", id="their agent"
        ),
        pytest.param(
            [trunk()],
            [rule(name="x", hide_phone_number=True)],
            "unchanged",
            "blocked",
            "hides the caller's",
            id="x hides",
        ),
        pytest.param(
            [trunk()], [rule(name="x", numbers=[TWO])], "unchanged", "create", "", id="their rule, of a number"
        ),
        pytest.param(
            [trunk()], [rule(name="x", rule=callee(pin="1"))], "unchanged", "create", "", id="theirs with a PIN"
        ),
        pytest.param([trunk()], [rule(trunks=[])], "unchanged", "create", "", id="a rule for all trunks is not ours"),
    ],
)
def test_the_plan(inbound, rules, trunk_action, rule_action, said):
    there = Telephony(inbound, rules=rules)
    changes = phone_setup.plan(WANTED, there)
    assert [each.action for each in changes] == [trunk_action, rule_action]
    details = " ".join(each.detail for each in changes)
    assert said in details
    assert not any(number in " ".join(each.hint for each in changes) for number in (ONE, TWO))
    for each in changes:
        assert (each.action is Action.BLOCKED) is bool(each.hint)


def test_what_others_set_on_ours_stays():
    tuned = rule(
        rule=callee(room_prefix="hotline", pin="99"), agents=["old"], krisp_enabled=True, attributes={"a": "b"}
    )
    _, change = phone_setup.plan(WANTED, Telephony([trunk()], rules=[tuned]))
    tuned.room_config.agents[0].agent_name = AGENT
    assert change.info == tuned
    ours = trunk(headers={"X-A": "b"}, allowed_numbers=["+1"], auth_username="bob", auth_password="x", numbers=[TWO])
    change, _ = phone_setup.plan(WANTED, Telephony([ours]))
    assert change.fields == {"numbers": [ONE]}


def test_metadata_for_the_agent_stays_when_the_agent_is_the_same():
    ours = rule(hide_phone_number=True)
    ours.room_config.agents[0].metadata = '{"tenant_id": "acme"}'
    _, change = phone_setup.plan(WANTED, Telephony([trunk()], rules=[ours]))
    assert change.info.room_config.agents[0].metadata == '{"tenant_id": "acme"}'


def test_the_room_does_not_have_the_callers_number():
    for there in ([], [rule(rule=INDIVIDUAL)], [rule(rule=DIRECT)]):
        _, change = phone_setup.plan(WANTED, Telephony([trunk()], rules=there))
        assert change.info.rule.WhichOneof("rule") == "dispatch_rule_callee"
        assert change.info.rule.dispatch_rule_callee.randomize
    assert change.info.rule.dispatch_rule_callee.room_prefix == "call"


@pytest.mark.parametrize(
    ("shown", "differs"),
    [("s3cret", False), ("other", True), ("", False), ("******", False)],
    ids=["the same", "another", "not shown", "stars"],
)
def test_a_password_is_compared_if_it_can_be_seen(shown, differs):
    wanted = Wanted((ONE,), AGENT, username="bob", password=SecretStr("s3cret"))
    change, _ = phone_setup.plan(wanted, Telephony([trunk(auth_username="bob", auth_password=shown)]))
    assert (change.action is Action.UPDATE) is differs
    assert "s3cret" not in change.detail + json.dumps(change.definition)
    change, _ = phone_setup.plan(wanted, Telephony([trunk(auth_username="eve", auth_password=shown)]))
    assert change.fields == {"auth_username": "bob", "auth_password": "s3cret"}
    assert change.definition["auth_password"] == "***"


def test_a_trunk_of_somebody_else_gets_the_rule_alone():
    wanted = Wanted((ONE,), AGENT, trunk_id="ST_theirs")
    change, new = phone_setup.plan(wanted, Telephony([theirs(), trunk(numbers=[TWO])]))
    assert (change.action, new.action) == (Action.UNCHANGED, Action.CREATE)
    assert list(new.info.trunk_ids) == ["ST_theirs"]
    change, _ = phone_setup.plan(wanted, Telephony([theirs(numbers=[TWO])]))
    assert change.action is Action.BLOCKED
    with pytest.raises(NotFoundError, match="no inbound trunk ST_theirs"):
        phone_setup.plan(wanted, Telephony([trunk()]))


OUT = Wanted((ONE,), AGENT, address="sip.example.com", transport="tls", username="bob", password=SecretStr("s3cret"))


def test_the_trunk_to_dial_by():
    change, *none = phone_setup.plan(OUT, Telephony([trunk()], rules=[rule()]))
    assert none == []
    assert (change.part, change.action) == ("outbound trunk", Action.CREATE)
    there = api.SIPOutboundTrunkInfo()
    there.CopyFrom(change.info)
    there.sip_trunk_id, there.destination_country = "ST_out", "DE"
    (same,) = phone_setup.plan(OUT, Telephony(outbound=[there]))
    assert (same.action, same.id) == (Action.UNCHANGED, "ST_out")
    there.address = "other"
    there.transport = api.SIPTransport.SIP_TRANSPORT_UDP
    (different,) = phone_setup.plan(OUT, Telephony(outbound=[there]))
    assert different.fields == {"address": "sip.example.com", "transport": api.SIPTransport.SIP_TRANSPORT_TLS}
    assert different.info.destination_country == "DE"
    there.metadata = ""
    (another,) = phone_setup.plan(OUT, Telephony(outbound=[there]))
    assert another.action is Action.CREATE, "one of somebody else is no hindrance"


# ---------------------------------------------------------------------- through the API


@pytest.fixture
async def livekit():
    """What a server knows, and how it is reached."""
    known = sip_server.Telephony()
    async with TestServer(sip_server.create_app(known)) as server:
        yield known, LiveKitCredentials(str(server.make_url("")), livekit_api.KEY, SecretStr(livekit_api.SECRET))


def actions(changes):
    return [each.action.value for each in changes]


async def test_it_is_made_once(livekit):
    known, credentials = livekit
    for wanted in (WANTED, OUT):
        first = await phone_setup.apply(credentials, wanted)
        assert set(actions(first)) == {"create"}
        assert all(each.id for each in first)
    assert known.changes == ["CreateSIPInboundTrunk", "CreateSIPDispatchRule", "CreateSIPOutboundTrunk"]
    (made,) = known.rules.values()
    assert list(made.trunk_ids) == list(known.inbound)
    for wanted in (WANTED, OUT):
        again = await phone_setup.apply(credentials, wanted)
        assert set(actions(again)) == {"unchanged"}
    assert len(known.changes) == 3


async def test_what_differs_is_changed_and_nothing_else(livekit):
    known, credentials = livekit
    await phone_setup.apply(credentials, WANTED)
    await phone_setup.apply(credentials, OUT)
    (inbound,), (rule,), (outbound,) = known.inbound.values(), known.rules.values(), known.outbound.values()
    inbound.numbers.append(TWO)
    inbound.krisp_enabled = True
    rule.hide_phone_number = True
    rule.attributes["kept"] = "yes"
    outbound.numbers[:] = [TWO]
    others = [
        known.add_inbound(numbers=["+4930999"], name="lkmongo"),
        known.add_outbound(numbers=[ONE], address="x", name="lkmongo"),
        known.add_rule(rule=callee(), name="lkmongo"),
    ]
    before = [known.inbound[others[0]].SerializeToString(), known.rules[others[2]].SerializeToString()]
    known.changes.clear()
    assert actions(await phone_setup.apply(credentials, WANTED)) == ["update", "update"]
    assert actions(await phone_setup.apply(credentials, OUT)) == ["update"]
    assert known.changes == ["UpdateSIPInboundTrunk", "UpdateSIPDispatchRule", "UpdateSIPOutboundTrunk"]
    assert list(known.inbound[inbound.sip_trunk_id].numbers) == [ONE]
    assert known.inbound[inbound.sip_trunk_id].krisp_enabled
    assert known.outbound[outbound.sip_trunk_id].auth_password == "s3cret"
    changed = known.rules[rule.sip_dispatch_rule_id]
    assert (changed.hide_phone_number, changed.attributes["kept"]) == (False, "yes")
    assert [known.inbound[others[0]].SerializeToString(), known.rules[others[2]].SerializeToString()] == before
    assert {*actions(await phone_setup.apply(credentials, WANTED))} == {"unchanged"}


async def test_a_rule_of_a_trunk_that_was_deleted_is_used_again(livekit):
    known, credentials = livekit
    await phone_setup.apply(credentials, WANTED)
    known.inbound.clear()
    assert actions(await phone_setup.apply(credentials, WANTED)) == ["create", "update"]
    (made,) = known.rules.values()
    assert list(made.trunk_ids) == list(known.inbound)


async def test_where_something_is_in_the_way_nothing_is_done(livekit):
    known, credentials = livekit
    known.add_inbound(numbers=[ONE], name="provider")
    assert actions(await phone_setup.apply(credentials, WANTED)) == ["blocked", "create"]
    assert known.changes == []


async def test_a_refusal_is_told_without_the_number(livekit, monkeypatch):
    known, credentials = livekit
    known.add_inbound(numbers=[ONE], name="provider")

    async def unseen(_credentials):  # it came in between
        return Telephony()

    monkeypatch.setattr(phone_setup, "read_telephony", unseen)
    with pytest.raises(LkmongoError, match="LiveKit refuses") as caught:
        await phone_setup.apply(credentials, WANTED)
    assert "Conflicting inbound SIP Trunks" in caught.value.why
    assert ONE not in str(caught.value.why)
    assert "…67" in caught.value.why


async def test_a_server_without_telephony_is_7():
    async with TestServer(livekit_api.create_app()) as server:
        where = LiveKitCredentials(str(server.make_url("")), livekit_api.KEY, SecretStr(livekit_api.SECRET))
        with pytest.raises(NotSupportedError, match="has no telephony"):
            await read_telephony(where)
