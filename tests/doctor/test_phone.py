"""Whether calls reach the agent, as the doctor sees it: each thing that can be missing, and what mends it."""

from __future__ import annotations

import sys

import pytest
from aiohttp.test_utils import TestServer
from livekit import api

from lkmongo.doctor import Status, examine
from lkmongo.doctor.database import erasure
from lkmongo.settings import Settings
from lkmongo.store.mongo.erasure_key import ErasureKey
from tests import livekit_api, sip_server
from tests.phoning import linked
from tests.test_phone_setup import DIRECT, INDIVIDUAL, ONE, callee

KEY = "k" * 40
SAFE = {"allowed_addresses": ["192.0.2.0/24"]}
AGENT = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="lkmongo-agent")])
OTHER = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="other")])


@pytest.fixture
async def look(tmp_path):
    """Look at a server that knows `look.known`, with one number of one tenant in the file unless told otherwise."""
    known = sip_server.Telephony()
    file = tmp_path / "tenants.yaml"
    file.write_text(f'tenants: {{acme: {{phone: {{numbers: ["{ONE}"]}}}}}}')
    async with TestServer(sip_server.create_app(known)) as server:

        async def call(tenants=True, only=("phone",), **more):
            environ = {
                "LIVEKIT_URL": f"ws://127.0.0.1:{server.port}",
                "LIVEKIT_API_KEY": livekit_api.KEY,
                "LIVEKIT_API_SECRET": livekit_api.SECRET,
                "MONGODB_URI": "mongodb://127.0.0.1:1",
                "LKMONGO_ERASURE_KEY": KEY,
                **({"LKMONGO_TENANTS": str(file)} if tenants else {}),
                **more,
            }
            settings, wrong = Settings.load_what_fits({name: value for name, value in environ.items() if value})
            assert not wrong
            checks = await examine(settings, wrong, only=only)
            return checks[-1]

        call.known = known
        call.file = file
        yield call


def made(known, *, trunk=SAFE, **rule):
    """A trunk with the number, and a rule that sends the agent."""
    key = known.add_inbound(numbers=[ONE], **trunk)
    return key, known.add_rule(**{"rule": callee(), "trunk_ids": [key], "room_config": AGENT, **rule})


async def test_all_is_well(look):
    made(look.known)
    check = await look()
    assert (check.status, check.detail) == (Status.OK, "calls reach lkmongo-agent")
    assert check.facts == ("…67 is the number of tenant acme",)
    assert ONE not in str(check)


async def test_a_rule_for_all_trunks_is_as_good(look):
    look.known.add_inbound(allowed_addresses=["192.0.2.1"])
    look.known.add_rule(rule=callee(), room_config=AGENT)
    assert (await look()).status is Status.OK


async def test_without_telephones_there_is_nothing_to_look_at(look):
    key = look.known.add_inbound(numbers=["+4930999"])
    look.known.add_rule(rule=INDIVIDUAL, trunk_ids=[key], room_config=OTHER, hide_phone_number=True)
    check = await look(tenants=False, LKMONGO_ERASURE_KEY="")
    assert (check.status, check.hint) == (Status.SKIP, None)
    assert check.detail == "no tenant has a telephone number, and no dispatch rule sends lkmongo-agent"
    check = await look(LIVEKIT_URL="", LIVEKIT_API_KEY="", LIVEKIT_API_SECRET="")
    assert check.detail == "LIVEKIT_URL is not set: nobody can call"


async def test_a_number_that_is_on_no_trunk(look):
    look.known.add_inbound(numbers=["+4930999"])
    look.known.add_rule(rule=callee(), room_config=AGENT)
    check = await look()
    assert (check.status, check.detail) == (Status.FAIL, "no inbound trunk takes the calls for …67 (acme)")
    assert check.hint == "lkmongo phone setup --apply"


async def test_a_trunk_without_a_rule(look):
    key = look.known.add_inbound(numbers=[ONE], **SAFE)
    check = await look()
    assert check.status is Status.FAIL
    assert f"no dispatch rule says where the calls for …67 (acme) go, on the trunk {key}" in check.detail
    assert check.hint.startswith(f"lkmongo phone setup --trunk {key} --apply")


@pytest.mark.parametrize(("config", "who"), [(OTHER, "other"), (api.RoomConfiguration(), "no agent")])
async def test_a_rule_that_sends_another(look, config, who):
    _, key = made(look.known, room_config=config, name="hotline")
    check = await look()
    assert check.status is Status.FAIL
    assert check.detail == f"the rule {key} (hotline) for …67 (acme) sends {who}, not lkmongo-agent"
    assert "LKMONGO_AGENT_NAME" in check.hint
    if who == "other":
        assert (await look(LKMONGO_AGENT_NAME="other")).status is Status.OK


@pytest.mark.parametrize("tenants", [True, False])
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"hide_phone_number": True}, "hides the numbers: no caller is known"),
        ({"rule": INDIVIDUAL}, "makes the caller's number a part of the room's name"),
        ({"rule": DIRECT}, "brings all callers together"),
    ],
)
async def test_a_rule_that_is_not_good_for_callers(look, tenants, rule, said):
    made(look.known, **rule)
    check = await look(tenants=tenants)
    assert check.status is Status.WARN
    assert said in check.detail
    assert "lkmongo phone setup --apply" in check.hint


async def test_a_trunk_that_anybody_can_call(look):
    key, _ = made(look.known, trunk={})
    check = await look()
    assert check.status is Status.WARN
    assert f"the trunk {key} takes calls from anywhere" in check.detail
    assert "--allowed-address" in check.hint


async def test_a_trunk_that_anybody_can_call_and_that_is_not_ours(look):
    made(look.known)
    other = look.known.add_inbound(numbers=["+4930999"])
    look.known.add_rule(rule=callee(), trunk_ids=[other], room_config=OTHER)
    assert (await look()).status is Status.OK


async def test_without_a_key_nobody_is_known(look):
    made(look.known)
    check = await look(LKMONGO_ERASURE_KEY="")
    assert check.status is Status.WARN
    assert "LKMONGO_ERASURE_KEY is not set: every caller is a stranger" in check.detail
    assert "openssl rand -hex 32" in check.hint
    assert (await look(LKMONGO_ERASURE_KEY="", MONGODB_URI="")).status is Status.OK, "the embedded one has a key"


@pytest.mark.parametrize("tenants", [True, False])
async def test_without_the_extra_no_number_is_read(look, monkeypatch, tenants):
    made(look.known)
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    check = await look(tenants=tenants)
    assert check.status is Status.FAIL
    assert "needs the extra phone" in check.detail
    assert check.hint == 'pip install "lkmongo[phone]"'


async def test_what_is_worst_comes_first_and_the_rest_is_told(look):
    made(look.known, trunk={}, room_config=OTHER)
    check = await look(LKMONGO_ERASURE_KEY="")
    assert (check.status, len(check.facts)) == (Status.FAIL, 2)
    assert "sends other, not" in check.detail
    assert "takes calls from anywhere" in check.facts[0]
    assert "; try: lkmongo phone setup --apply with --allowed-address" in check.facts[0]


async def test_a_server_without_telephony(look, tmp_path):
    async with TestServer(livekit_api.create_app()) as server:
        url = f"ws://127.0.0.1:{server.port}"
        check = await look(tenants=False, LIVEKIT_URL=url)
        assert check.status is Status.SKIP
        assert "this LiveKit server has no telephony" in check.detail
        check = await look(LIVEKIT_URL=url)
        assert check.status is Status.FAIL
        assert "Redis" in check.hint


async def test_where_livekit_is_away_it_is_said_once(look):
    away = {"LIVEKIT_URL": "ws://127.0.0.1:1"}
    check = await look(**away)
    assert (check.name, check.status) == ("phone", Status.FAIL)
    check = await look(only=("livekit", "phone"), **away)
    assert (check.name, check.status, check.detail) == ("phone", Status.SKIP, "LiveKit does not answer: see livekit")


async def test_a_wrong_file_of_tenants(look):
    look.file.write_text("tenants: [")
    check = await look()
    assert check.status is Status.FAIL
    assert "is not YAML" in check.detail


async def test_numbers_under_another_key_are_told(store):
    store.db.client.erasure_key = ErasureKey(b"a" * 32)
    await linked(store, "u-100")
    assert "telephone" not in (await erasure(store)).detail
    store.db.client.erasure_key = ErasureKey(b"b" * 32)
    found = await erasure(store)
    assert (found.status, found.detail[:19]) == (Status.WARN, "1 telephone numbers")
