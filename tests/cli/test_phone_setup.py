"""`lkmongo phone setup` as an operator runs it: what it prints, what it makes, and how it ends."""

from __future__ import annotations

import asyncio
import json

import pexpect
import pytest
from aiohttp.test_utils import TestServer

from tests import livekit_api, sip_server

ONE, TWO = "+49301234567", "+49301234568"
KEYS = {"LIVEKIT_API_KEY": livekit_api.KEY, "LIVEKIT_API_SECRET": livekit_api.SECRET}
TENANTS = f"""
tenants:
  acme:
    phone:
      numbers: ["{ONE}"]
  globex:
    phone:
      numbers: ["0049 30 1234568"]
      region: DE
"""
PASSWORD = "canary-s3cret-of-the-trunk"


@pytest.fixture
async def setup(run, tmp_path):
    """Run the command against a server, which knows `setup.known`."""
    known = sip_server.Telephony()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    async with TestServer(sip_server.create_app(known)) as server:

        def environment():
            return KEYS | {"LIVEKIT_URL": f"ws://127.0.0.1:{server.port}"}

        async def call(*arguments, env=None, number=ONE):
            given = ("--number", number) if number else ()
            return await asyncio.to_thread(run, "phone", "setup", *given, *arguments, env=environment() | (env or {}))

        call.known, call.environment = known, environment
        yield call


def actions(result):
    return [row["action"] for row in result.json]


async def test_it_prints_what_is_missing_and_makes_it_once(setup):
    shown = await setup()
    assert shown.code == 0
    assert shown.stdout.splitlines() == [
        "part\tname\tid\taction\tdetail",
        f"inbound trunk\tlkmongo\t\tcreate\t{ONE}; takes calls from anywhere",
        "dispatch rule\tlkmongo\t\tcreate\tsends lkmongo-agent into a room for each call",
    ]
    assert "2 differences; --apply makes it so" in shown.stderr
    assert setup.known.changes == []
    checked = await setup("--check")
    assert checked.code == 6
    assert "  try: lkmongo phone setup --apply" in checked.stderr
    assert ONE not in checked.stderr
    made = await setup("--apply", "--json")
    assert (made.code, actions(made)) == (0, ["create", "create"])
    assert {row["id"] for row in made.json} == {*setup.known.inbound, *setup.known.rules}
    for again in (await setup("--apply", "--json"), await setup("--check", "--json")):
        assert (again.code, actions(again)) == (0, ["unchanged", "unchanged"])
    assert setup.known.changes == ["CreateSIPInboundTrunk", "CreateSIPDispatchRule"]


async def test_the_numbers_are_those_of_all_tenants(setup, tmp_path):
    made = await setup("--apply", "--json", number=None, env={"LKMONGO_TENANTS": str(tmp_path / "tenants.yaml")})
    assert made.code == 0, made.stderr
    (trunk,) = setup.known.inbound.values()
    assert list(trunk.numbers) == [ONE, TWO]
    (tmp_path / "tenants.yaml").write_text(TENANTS.partition("  globex")[0])
    less = await setup("--check", "--json", number=None, env={"LKMONGO_TENANTS": str(tmp_path / "tenants.yaml")})
    assert (less.code, less.json[0]["detail"]) == (6, f"{TWO} is taken off; takes calls from anywhere")


async def test_the_agent_is_the_one_of_the_settings(setup):
    await setup("--apply")
    other = await setup("--apply", "--json", env={"LKMONGO_AGENT_NAME": "other"})
    assert actions(other) == ["unchanged", "update"]
    (rule,) = setup.known.rules.values()
    assert [each.agent_name for each in rule.room_config.agents] == ["other"]


async def test_who_may_hand_over_calls(setup, tmp_path):
    safe = ("--allowed-address", "192.0.2.9/24", "--auth-username", "bob")
    file = ("--auth-password-file", str(tmp_path / "password"))
    unknown = await setup(*safe, "--apply")
    assert unknown.code == 2
    assert "add --auth-password-file" in unknown.stderr
    made = await setup(*safe, *file, "--apply", "--json")
    assert made.code == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    (trunk,) = setup.known.inbound.values()
    assert list(trunk.allowed_addresses) == ["192.0.2.0/24"]
    assert (trunk.auth_username, trunk.auth_password) == ("bob", PASSWORD)
    assert made.stderr == "", "not that anybody could call"
    for more in ((), safe, (*safe, *file)):
        again = await setup(*more, "--apply", "--json")
        assert (again.code, actions(again)) == (0, ["unchanged", "unchanged"]), again.stderr


async def test_a_trunk_that_anybody_can_call_is_warned_of(setup):
    assert "warning: whoever finds the trunk's address can call" in (await setup("--apply")).stderr


async def test_a_number_on_a_trunk_of_somebody_else_is_6_and_its_trunk_can_be_used(setup):
    trunk = setup.known.add_inbound(numbers=[ONE], name="provider")
    in_the_way = await setup("--apply")
    assert in_the_way.code == 6
    assert f"lkmongo phone setup --trunk {trunk}" in in_the_way.stderr
    assert ONE not in in_the_way.stderr
    before = setup.known.inbound[trunk].SerializeToString()
    used = await setup("--apply", "--trunk", trunk, "--json")
    assert (used.code, actions(used)) == (0, ["unchanged", "create"])
    assert setup.known.changes == ["CreateSIPDispatchRule"]
    assert setup.known.inbound[trunk].SerializeToString() == before
    assert (await setup("--check", "--trunk", trunk)).code == 0
    assert (await setup("--trunk", "ST_none")).code == 5


async def test_the_trunk_to_dial_by_says_what_to_set(setup, tmp_path):
    options = ("--outbound", "sip.example.com:5061", "--transport", "tls", "--auth-username", "bob")
    made = await setup(*options, "--auth-password-file", str(tmp_path / "password"), "--apply", "--json")
    assert (made.code, actions(made)) == (0, ["create"])
    (key,) = setup.known.outbound
    assert f"Set LKMONGO_SIP_TRUNK={key}" in made.stderr
    again = await setup(*options, "--apply", "--json")
    assert (again.code, actions(again)) == (0, ["unchanged"])
    assert setup.known.changes == ["CreateSIPOutboundTrunk"]


def test_definitions_without_a_connection(run, tmp_path):
    (tmp_path / "password").write_text(PASSWORD)
    secret = ("--auth-username", "bob", "--auth-password-file", "password")
    result = run("phone", "setup", "--number", ONE, "--dry-run", *secret)
    trunk, rule = json.loads(result.stdout)
    assert (trunk["part"], trunk["definition"]["numbers"]) == ("inbound trunk", [ONE])
    assert trunk["definition"]["auth_password"] == "***"
    assert rule["definition"]["room_config"] == {"agents": [{"agent_name": "lkmongo-agent"}]}
    assert rule["definition"]["rule"]["dispatch_rule_callee"]["randomize"] is True
    assert "hide_phone_number" not in rule["definition"]
    assert PASSWORD not in result.stdout + result.stderr
    (alone,) = run("phone", "setup", "--number", ONE, "--dry-run", "--trunk", "ST_x", "--json").json
    assert alone["definition"]["trunk_ids"] == ["ST_x"]


async def test_a_password_is_asked_for_on_a_terminal_and_not_shown(setup, at_terminal):
    child = at_terminal("phone", "setup", "--number", ONE, "--auth-username", "bob", "--apply", env=setup.environment())

    def answer():
        child.expect("Password of bob: ")
        child.sendline(PASSWORD)
        child.expect(pexpect.EOF)
        child.close()

    await asyncio.to_thread(answer)
    assert child.exitstatus == 0
    assert PASSWORD not in child.before
    (trunk,) = setup.known.inbound.values()
    assert trunk.auth_password == PASSWORD


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there are no numbers"),
        (["--number", "hello"], "that is not a telephone number"),
        (["--number", "030 1234567"], "a number without its country"),
        (["--number", f"{ONE};ext=5"], "--number has an extension"),
        (["--number", ONE, "--apply", "--check"], "exclude each other"),
        (["--number", ONE, "--allowed-address", "everywhere"], "'everywhere' is no address"),
        (["--number", ONE, "--outbound", "sip:example.com"], "'sip:example.com' is no host"),
        (["--number", ONE, "--outbound", ""], "'' is no host"),
        (["--number", ONE, "--transport", "tls"], "goes with --outbound"),
        (["--number", ONE, "--outbound", "x", "--transport", "ws"], "is udp, tcp or tls"),
        (["--number", ONE, "--outbound", "x", "--allowed-address", "192.0.2.1"], "of calls that come in"),
        (["--number", ONE, "--trunk", "ST_x", "--auth-username", "bob"], "leaves that trunk as it is"),
        (["--number", ONE, "--auth-password-file", "password"], "needs --auth-username"),
        (["--number", ONE, "--auth-username", "b", "--auth-password-file", "none"], "none cannot be read"),
        (["--number", ONE, "--auth-username", "b", "--auth-password-file", "empty"], "empty is empty"),
        (["--number", ONE, "--trunk-name", " "], "--trunk-name is empty"),
        (["--number", ONE], "LIVEKIT_URL is not set"),
    ],
)
def test_wrong_usage_is_2(run_inside, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    result = run_inside("phone", "setup", *arguments)
    assert result.code == 2
    assert said in result.stderr
    assert "  try: " in result.stderr
    assert ONE not in result.stderr


async def test_a_server_without_telephony_is_7(run):
    async with TestServer(livekit_api.create_app()) as server:
        env = KEYS | {"LIVEKIT_URL": f"ws://127.0.0.1:{server.port}"}
        result = await asyncio.to_thread(run, "phone", "setup", "--number", ONE, env=env)
    assert result.code == 7
    assert "needs Redis and livekit-sip" in result.stderr
