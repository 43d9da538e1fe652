"""`lkmongo token` and `lkmongo token inspect`: what they write where, and how they end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from aiohttp.test_utils import TestServer
from livekit import api

from lkmongo.dispatch import read_dispatch
from lkmongo.model import UserScope
from tests import livekit_api
from tests.conftest import clean_environment
from tests.livekit_api import KEY, SECRET, Rooms

PAIR = {"LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
LIVEKIT = PAIR | {"LIVEKIT_URL": "wss://voice.example"}


@pytest.fixture
def token(run):
    """Run `lkmongo token`, with credentials."""

    def call(*arguments, input="", env=LIVEKIT):
        return run("token", *arguments, input=input, env=env)

    return call


def claims(text: str) -> api.access_token.Claims:
    return api.TokenVerifier(KEY, SECRET).verify(text)


# ---------------------------------------------------------------------- what is written


def test_json_is_what_a_token_endpoint_answers(token):
    result = token("--user", "u-100", "--json")
    assert result.code == 0
    answer = result.json
    assert set(answer) == {"server_url", "participant_token", "room_name", "participant_identity", "expires_at"}
    assert answer["server_url"] == "wss://voice.example"
    found = claims(answer["participant_token"])
    assert (found.identity, found.video.room) == (answer["participant_identity"], answer["room_name"])
    life = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < life <= timedelta(minutes=15)
    (sent,) = found.room_config.agents
    assert sent.agent_name == "lkmongo-agent"
    seen = read_dispatch(sent.metadata, room=answer["room_name"], secret=SECRET)
    assert (seen.scope, seen.guest) == (UserScope(tenant_id="default", user_id="u-100"), False)


def test_a_person_gets_what_the_playground_asks_for_and_the_rest_on_stderr(token):
    result = token("--user", "u-100", "-o", "table")
    url, text = result.stdout.splitlines()
    assert url.split() == ["URL", "wss://voice.example"]
    found = claims(text.removeprefix("token").strip())
    assert found.identity in result.stderr
    assert found.video.room in result.stderr
    assert "it treats the caller as u-100 of tenant default" in result.stderr
    assert "in 15m" in result.stderr
    plain = token("--user", "u-100").stdout.splitlines()
    assert plain[1] == "URL\twss://voice.example"
    assert claims(plain[2].removeprefix("token\t"))


def test_the_token_alone_still_tells_where_and_who_on_stderr(token):
    result = token("--token-only", env=LIVEKIT | {"LKMONGO_OUTPUT": "json"})
    found = claims(result.stdout.strip())
    assert found.identity in result.stderr
    assert found.video.room in result.stderr
    assert "as a guest of tenant default" in result.stderr


def test_env_lines(token):
    url, line = token("--env").stdout.splitlines()
    assert url == "LIVEKIT_URL=wss://voice.example"
    assert claims(line.removeprefix("LIVEKIT_TOKEN="))
    (line,) = token("--env", env=PAIR).stdout.splitlines()
    assert line.startswith("LIVEKIT_TOKEN=")


def test_every_option_gets_into_the_token(token, tmp_path):
    (tmp_path / "attributes.json").write_text('{"plan": "free", "lang": "de"}')
    (tmp_path / "metadata.json").write_text('{"seat": 4}\n')
    result = token(
        *("--user", "u-100", "--tenant", "acme", "--room", "lobby", "--identity", "jordan", "--name", "Jordan"),
        *("--ttl", "6h", "--agent", "greeter", "--metadata", "@metadata.json", "--attribute", "plan=pro=max"),
        *("--attribute-file", "attributes.json", "--no-subscribe", "--no-data", "--hidden", "--update-metadata"),
        *("--source", "microphone", "--source", "camera", "--json"),
    )
    assert result.code == 0, result.stderr
    found = claims(result.json["participant_token"])
    assert (found.identity, found.name, found.metadata) == ("jordan", "Jordan", '{"seat": 4}')
    assert found.attributes == {"plan": "pro=max", "lang": "de"}, "the option wins over the file"
    may = found.video
    assert (may.room, may.can_publish_sources) == ("lobby", ["microphone", "camera"])
    assert (may.can_subscribe, may.can_publish_data, may.hidden, may.can_update_own_metadata) == (
        False,
        False,
        True,
        True,
    )
    (sent,) = found.room_config.agents
    assert sent.agent_name == "greeter"
    assert read_dispatch(sent.metadata, room="lobby", secret=None).scope == UserScope(tenant_id="acme", user_id="u-100")
    assert claims(token("--no-publish", "--token-only").stdout.strip()).video.can_publish is False


def test_metadata_comes_from_stdin_too(token):
    result = token("--metadata", "-", "--json", input='["a"]')
    assert claims(result.json["participant_token"]).metadata == '["a"]'


def test_a_sealed_person_is_not_in_the_token(token, run):
    result = token("--user", "u-100", "--tenant", "acme", "--sealed", "--json")
    text = json.dumps(jwt.decode(result.json["participant_token"], options={"verify_signature": False}))
    assert "u-100" not in text
    assert "acme" not in text
    seen = run("token", "inspect", "--json", input=result.stdout, env=LIVEKIT).json["agents"][0]
    assert (seen["user_id"], seen["tenant_id"], seen["sealed"], seen["guest"]) == ("u-100", "acme", True, False)
    blind = run("token", "inspect", "--json", input=result.stdout)
    assert (blind.code, blind.json["agents"][0]["user_id"], blind.json["agents"][0]["guest"]) == (0, None, None)


@pytest.mark.parametrize("number", ["+493012345678", "anonymous"])
def test_a_telephone_is_let_in_as_livekits_sip_service_does(token, run, number):
    result = token("--sip", number, "--dialled", "+49301111111", "--attribute", "sip.callStatus=ringing", "--json")
    assert result.code == 0, result.stderr
    found = claims(result.json["participant_token"])
    assert (found.kind, found.identity, found.name) == ("sip", f"sip_{number}", f"Phone {number}")
    assert found.attributes["sip.phoneNumber"] == number
    assert found.attributes["sip.trunkPhoneNumber"] == "+49301111111"
    assert found.attributes["sip.callStatus"] == "ringing", "an attribute that is given takes precedence"
    assert {"sip.callID", "sip.trunkID", "sip.ruleID"} < found.attributes.keys()
    (sent,) = found.room_config.agents
    assert (sent.agent_name, sent.metadata) == ("lkmongo-agent", ""), "a telephone does not say who is calling"
    assert "it knows the caller by the number" in result.stderr
    assert "12345678" not in result.stderr
    seen = run("token", "inspect", "--json", input=result.stdout, env=LIVEKIT).json
    assert (seen["participant_kind"], seen["agents"][0]["guest"]) == ("sip", True)
    shown = run("token", "inspect", input=result.stdout, env=LIVEKIT).stdout
    assert "knows the caller by the telephone number" in shown


def test_two_calls_from_one_telephone_are_told_apart(token):
    spaced = claims(token("--sip", "+49 (30) 123-45678", "--token-only").stdout.strip())
    assert (spaced.identity, spaced.attributes["sip.phoneNumber"]) == ("sip_+493012345678", "+493012345678")
    calls = [claims(token("--sip", "+493012345678", "--token-only").stdout.strip()) for _ in range(2)]
    assert len({call.attributes["sip.callID"] for call in calls}) == 2
    assert "sip.trunkPhoneNumber" not in calls[0].attributes
    assert claims(token("--token-only").stdout.strip()).kind == ""


def test_purposes(token):
    may = claims(token("--for", "observer", "--room", "lobby", "--token-only").stdout.strip())
    assert (may.video.can_publish, may.video.can_publish_data, may.video.hidden) == (False, False, True)
    assert (may.video.can_subscribe, may.room_config) == (True, None)
    may = claims(token("--for", "admin", "--room", "lobby", "--token-only").stdout.strip())
    assert (may.video.room_admin, may.video.can_publish, may.room_config) == (True, True, None)


def test_the_agent_is_the_one_of_the_settings(token):
    text = token("--token-only", env=LIVEKIT | {"LKMONGO_AGENT_NAME": "greeter"}).stdout.strip()
    assert claims(text).room_config.agents[0].agent_name == "greeter"


@pytest.mark.parametrize(
    ("url", "shown"), [("http://a:7880", "ws://a:7880"), ("https://a/", "wss://a"), ("ws://a", "ws://a")]
)
def test_the_address_is_the_one_that_clients_connect_to(token, url, shown):
    assert token("--json", env=PAIR | {"LIVEKIT_URL": url}).json["server_url"] == shown


def test_a_missing_address_is_a_warning_with_the_fix(token):
    result = token("--json", env=PAIR)
    assert (result.code, result.json["server_url"]) == (0, None)
    assert "warning: LIVEKIT_URL is not set" in result.stderr
    assert ".env.local" in result.stderr


def test_a_weak_secret_and_a_long_life_are_warned_of_once(token):
    result = token("--ttl", "30d", "--token-only", env=LIVEKIT | {"LIVEKIT_API_SECRET": "secret"})
    assert result.code == 0
    warnings = [line for line in result.stderr.splitlines() if "arning" in line]
    assert len(warnings) == 2
    assert "only 6 bytes" in warnings[0]
    assert "for 30d" in warnings[1]
    assert "openssl" in warnings[0]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ttl", "30s"], "too short"),
        (["--ttl", "60s"], "too short"),
        (["--ttl", "soon"], "not a duration"),
        (["--agent", ""], "the agent's name is empty"),
        (["--user", ""], "the user id is empty"),
        (["--tenant", " "], "the tenant id is empty"),
        (["--room", ""], "the room is empty"),
        (["--identity", "p" * 257], "257 bytes"),
        (["--metadata", "{a: 1}"], "not JSON"),
        (["--metadata", "@missing.json"], "missing.json cannot be read"),
        (["--metadata", "@big.json"], "LiveKit's servers take 524,288"),
        (["--attribute", "plan"], "not KEY=VALUE"),
        (["--attribute", "=pro"], "not KEY=VALUE"),
        (["--attribute-file", "list.json"], "not one JSON object of texts"),
        (["--source", "keyboard"], "keyboard"),
        (["--sealed"], "--sealed needs --user"),
        (["--dispatch"], "--dispatch needs --room"),
        (["--wait", "5s"], "--wait needs --dispatch"),
        (["--for", "observer"], "--for observer needs --room"),
        (["--for", "observer", "--room", "r", "--user", "u-100"], "contradict each other"),
        (["--for", "observer", "--room", "r", "--source", "camera"], "contradict each other"),
        (["--for", "admin", "--room", "r", "--agent", "greeter"], "contradict each other"),
        (["--sip", "+493012345678", "--user", "u-100"], "--sip and --user contradict each other"),
        (["--sip", "+493012345678", "--tenant", "acme"], "--sip and --tenant contradict each other"),
        (["--sip", "+493012345678", "--for", "observer", "--room", "r"], "--for observer and --sip contradict"),
        (["--dialled", "+49301111111"], "--dialled needs --sip"),
        (["--no-publish", "--source", "camera"], "contradict each other"),
        (["--token-only", "--env"], "contradict each other"),
        (["--token-only", "--json"], "contradict each other"),
        (["--env", "-o", "table"], "contradict each other"),
        (["--user", "u-100", "inspect"], "--user is not an option of token inspect"),
        (["u-100"], "u-100"),
    ],
)
def test_what_cannot_be_is_2_and_says_why(token, tmp_path, arguments, words):
    (tmp_path / "big.json").write_text(json.dumps("m" * 513 * 1024))
    (tmp_path / "list.json").write_text('["a"]')
    result = token(*arguments)
    assert result.code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_missing_credentials_are_named(run):
    result = run("token", "--user", "u-100")
    assert result.code == 2
    assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set" in result.stderr
    result = run("token", env={"LIVEKIT_API_KEY": KEY})
    assert result.code == 2
    assert "error: LIVEKIT_API_SECRET is not set" in result.stderr


# ---------------------------------------------------------------------- inspect


def test_what_was_minted_is_inspected(token, run):
    minted = token("--user", "u-100", "--name", "Jordan", "--json")
    for arguments, piped in ((["-"], minted.stdout), ([], minted.stdout), ([minted.json["participant_token"]], "")):
        result = run("token", "inspect", *arguments, "--json", input=piped, env=LIVEKIT)
        assert result.code == 0, result.stderr
        seen = result.json
        assert (seen["accepted"], seen["problems"], seen["notes"], seen["signature"]) == (True, [], [], "valid")
        assert seen["room_name"] == minted.json["room_name"]
        assert seen["expires_at"] == minted.json["expires_at"]
        assert seen["agents"] == [
            {
                "agent_name": "lkmongo-agent",
                "sealed": False,
                "guest": False,
                "user_id": "u-100",
                "tenant_id": "default",
                "why": None,
                "participant_identity": minted.json["participant_identity"],
            }
        ]


def test_a_person_reads_what_the_agent_will_make_of_it(token, run):
    result = run("token", "inspect", "-o", "table", input=token("--env", "--user", "u-100").stdout, env=LIVEKIT)
    assert result.code == 0
    assert "lkmongo-agent treats the caller as u-100 of tenant default" in result.stdout
    assert "in 15 minutes" in result.stdout
    assert "publish, subscribe, send data" in result.stdout
    guest = run("token", "inspect", input=token("--token-only").stdout, env=LIVEKIT)
    assert "as a guest of tenant default (the metadata has no user_id)" in guest.stdout


def test_without_a_secret_the_signature_is_not_checked_and_that_is_said(token, run):
    result = run("token", "inspect", input=token("--token-only").stdout)
    assert result.code == 0
    assert "signature\tnot checked" in result.stdout
    assert "note: the signature was not checked" in result.stderr


def test_what_a_server_would_refuse_is_1(token, run):
    text = token("--token-only").stdout.strip()
    wrong = run("token", "inspect", text, env=LIVEKIT | {"LIVEKIT_API_SECRET": SECRET + "!"})
    assert wrong.code == 1
    assert "signature was not made with this LIVEKIT_API_SECRET" in wrong.stderr
    assert SECRET not in wrong.stdout + wrong.stderr
    expired = jwt.encode(jwt.decode(text, options={"verify_signature": False}) | {"exp": 1_700_000_000}, SECRET)
    result = run("token", "inspect", "--json", input=expired, env=LIVEKIT)
    assert result.code == 1
    assert result.json["accepted"] is False
    assert "it expired" in json.loads(result.stderr)["error"]["message"]


def test_what_is_no_token_is_2(run):
    for text in ("", "hello", '{"error": "no"}'):
        result = run("token", "inspect", input=text)
        assert result.code == 2
        assert "there is no token in that" in result.stderr


# ---------------------------------------------------------------------- dispatch


@pytest.fixture
def sent(run):
    """Run `lkmongo token --dispatch` against a server with these rooms."""

    async def call(rooms: Rooms, *arguments, env=PAIR):
        async with TestServer(livekit_api.create_app(rooms=rooms)) as server:
            address = {"LIVEKIT_URL": f"ws://127.0.0.1:{server.port}"}
            return await asyncio.to_thread(run, "token", "--room", "lobby", "--dispatch", *arguments, env=address | env)

    return call


async def test_the_agent_is_sent_into_a_room_that_exists(sent):
    rooms = Rooms({"lobby"}, {"lkmongo-agent": "joins"})
    result = await sent(rooms, "--user", "u-100", "--json")
    assert result.code == 0, result.stderr
    assert (result.json["dispatch_id"], result.json["agent_identity"]) == ("AD_1", "agent-AJ_1")
    assert "lkmongo-agent is in the room" in result.stderr
    (asked,) = rooms.dispatches
    found = read_dispatch(asked.metadata, room="lobby", secret=SECRET)
    assert (found.scope, found.participant_identity) == (
        UserScope(tenant_id="default", user_id="u-100"),
        result.json["participant_identity"],
    )
    assert claims(result.json["participant_token"]).room_config is None, "it would be sent twice"


async def test_an_agent_that_is_not_waited_for(sent):
    rooms = Rooms({"lobby"})
    result = await sent(rooms, "--wait", "0s", "--json")
    assert (result.code, result.json["agent_identity"]) == (0, None)
    assert len(rooms.dispatches) == 1


@pytest.mark.parametrize(
    ("workers", "code", "words"),
    [
        ({}, 3, "no worker accepted the job: most likely none called lkmongo-agent runs"),
        ({"lkmongo-agent": "stays away"}, 3, "a worker accepted the job and has not joined"),
        ({"lkmongo-agent": "fails"}, 1, "the entrypoint raised"),
    ],
)
async def test_an_agent_that_does_not_arrive_says_why(sent, workers, code, words):
    result = await sent(Rooms({"lobby"}, workers), "--wait", "1s")
    assert result.code == code
    assert words in result.stderr
    assert "  try: " in result.stderr
    assert result.stdout == ""


async def test_a_room_that_does_not_exist_is_5(sent):
    rooms = Rooms({"other"})
    result = await sent(rooms)
    assert result.code == 5
    assert "there is no room called lobby" in result.stderr
    assert rooms.dispatches == []


async def test_a_refused_key_is_4_and_a_dead_address_is_1(sent):
    result = await sent(Rooms({"lobby"}), env=PAIR | {"LIVEKIT_API_SECRET": SECRET + "!"})
    assert result.code == 4
    result = await sent(Rooms({"lobby"}), env=PAIR | {"LIVEKIT_URL": "ws://127.0.0.1:1"})
    assert result.code == 1
    assert "LiveKit cannot be reached" in result.stderr


def test_dispatch_needs_an_address(token):
    result = token("--room", "lobby", "--dispatch", env=PAIR)
    assert result.code == 2
    assert "LIVEKIT_URL is not set" in result.stderr


# ---------------------------------------------------------------------- what it costs


def test_neither_command_loads_the_agents_sdk():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom lkmongo.cli import app\n"
        "minted = CliRunner().invoke(app, ['token', '--user', 'u-100', '--sealed', '--json'])\n"
        "assert minted.exit_code == 0, minted.output\n"
        "heavy = {'livekit.agents', 'pymongo', 'numpy', 'livekit.rtc'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    environment = clean_environment() | LIVEKIT
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
