"""What the doctor says of settings, clocks, disks and devices; how checks are made and counted."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lkmongo.console.devices import Device
from lkmongo.doctor import NAMES, Check, Status, choose, worst
from lkmongo.doctor.check import fail, failed, ok, run
from lkmongo.doctor.database import judge_clock, judge_vectors
from lkmongo.doctor.machine import address, in_transit, incomplete, program, settings_in_use, size, space
from lkmongo.doctor.services import judge_devices
from lkmongo.errors import AuthenticationError, ExitCode, NotReadyError, SettingsError, UsageError
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.journal import Journal, journal_folder
from lkmongo.settings import Settings
from lkmongo.store.indexes.backfill import Coverage

SECRET = "canary-s3cret-98765-98765-98765-98765"
URI = f"mongodb+srv://app:{SECRET}@cluster0.ab1cd.mongodb.net/?appName=x"


def look_at(environ, sources=None, ignored=None):
    settings, wrong = Settings.load_what_fits(environ, sources, ignored)
    return settings_in_use(settings, {**incomplete(settings), **wrong})


# -- settings


def test_each_variable_that_is_set_is_shown_with_its_source_and_without_secrets():
    found = look_at(
        {
            "MONGODB_URI": URI,
            "VOYAGE_API_KEY": SECRET,
            "LKMONGO_LLM": "llama3.2",
            "LKMONGO_LLM_BASE_URL": f"http://localhost:1/v1?key={SECRET}",
        },
        {"MONGODB_URI": ".env.local", "VOYAGE_API_KEY": ".env"},
    )
    assert (found.status, found.detail) == (Status.OK, "4 set")
    assert found.facts == (
        "MONGODB_URI = mongodb+srv://cluster0.ab1cd.mongodb.net (from .env.local)",
        "VOYAGE_API_KEY = cana***65 (from .env)",
        "LKMONGO_LLM = llama3.2 (from the environment)",
        "LKMONGO_LLM_BASE_URL = http://localhost:1/v1 (from the environment)",
    )


def test_what_a_dotenv_file_may_not_set_is_named():
    for environ, detail in (({}, "nothing is set"), ({"LKMONGO_LLM": "m"}, "1 set")):
        found = look_at(environ, None, {"LD_PRELOAD": ".env"})
        assert found.status is Status.OK
        assert found.detail.startswith(detail)
        assert found.facts[-1].startswith("LD_PRELOAD in .env is ignored, because only settings of lkmongo are read")


def test_nothing_set_is_fine():
    found = look_at({})
    assert (found.status, found.facts) == (Status.OK, ())
    assert "everything runs on this machine" in found.detail


@pytest.mark.parametrize(
    ("environ", "said", "hint"),
    [
        (
            {"LKMONGO_EMBEDDING": "local"},
            "LKMONGO_EMBEDDING is not a setting",
            "rename LKMONGO_EMBEDDING to LKMONGO_EMBEDDINGS",
        ),
        (
            {"LKMONGO_XYZZY": "1", "LKMONGO_AGENTS": "1"},
            "LKMONGO_AGENTS, LKMONGO_XYZZY are not settings",
            "LKMONGO_AGENT",
        ),
    ],
)
def test_a_variable_that_is_none_is_a_warning(environ, said, hint):
    found = look_at(environ)
    assert (found.status, found.detail) == (Status.WARN, said)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LIVEKIT_URL": "wss://x.livekit.cloud"}, "LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set"),
        ({"LKMONGO_EMBEDDINGS": "voyage"}, "VOYAGE_API_KEY is not set"),
        ({"LKMONGO_EMBEDDINGS": "atlas"}, "MONGODB_URI is not set"),
        ({"LKMONGO_RERANK": "atlas"}, "MONGODB_URI is not set"),
        ({"VOYAGE_API_KEY": "k", "LKMONGO_EMBEDDING_MODEL": "voyage-99"}, "voyage-99"),
        ({"VOYAGE_API_KEY": "k", "LKMONGO_EMBEDDING_DIMENSIONS": "7"}, "7"),
        ({"MONGODB_URI": SECRET}, "MONGODB_URI must begin with mongodb://"),
    ],
)
def test_what_cannot_be_right_fails(environ, said):
    found = look_at(environ)
    assert (found.status, found.exit_code) == (Status.FAIL, ExitCode.FAILED)
    assert said in found.detail
    assert found.hint
    assert SECRET not in str(found)


def test_every_wrong_value_is_named_with_its_place():
    found = look_at(
        {"LKMONGO_SEARCH": "perhaps", "LKMONGO_EMBEDDING_DIMENSIONS": "many", "LKMONGO_LLM": "m"},
        {"LKMONGO_SEARCH": ".env.local"},
    )
    assert "LKMONGO_SEARCH must be auto, atlas or exact (it is set in .env.local)" in found.detail
    assert "LKMONGO_EMBEDDING_DIMENSIONS must be a whole number (it is set in the environment)" in found.detail
    assert found.facts == ("LKMONGO_LLM = m (from the environment)",)


def test_the_program_tells_its_versions():
    found = program()
    assert "lkmongo 0" in found.detail
    assert "livekit-agents 1." in found.facts[0]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://h", "mongodb://h"),
        ("mongodb://h:1,g:2/db?x=1", "mongodb://h:1,g:2"),
        ("mongodb://u:p@[::1]:27017/", "mongodb://[::1]:27017"),
        ("mongodb://%2Ftmp%2Fx.sock/?a=b", "mongodb://%2Ftmp%2Fx.sock"),
        ("mongodb+srv://u@c.net", "mongodb+srv://c.net"),
        ("mongodb://u:p@ss@h", "mongodb://***"),
        ("mongodb://u:p/ss@h", "mongodb://***"),
        ("mongodb://u:pass", "mongodb://***"),
        ("mongodb://h/?authMechanismProperties=x:y@z", "mongodb://***"),
    ],
)
def test_an_address_is_shown_as_its_hosts(uri, shown):
    assert address(uri) == shown


@given(
    before=st.text("ab:/@?#&=%.,[]", max_size=6),
    after=st.text("ab:/@?#&=%.,[]", max_size=6),
    option=st.sampled_from(["", "/?authSource=admin", "/db?w=1"]),
)
@example(before="@", after="/", option="")
def test_no_password_however_badly_written_is_shown(before, after, option):
    assert "s3cret" not in address(f"mongodb://app:{before}s3cret{after}@h.example.com{option}")


# -- clock, disk, vectors, devices


@pytest.mark.parametrize(
    ("seconds", "margin", "status", "said"),
    [
        (0.2, 0, Status.OK, "0.2 s"),
        (-4.9, 0, Status.OK, "4.9 s"),
        (6.0, 2.0, Status.OK, "6.0 s"),
        (90, 0, Status.WARN, "90 s ahead of"),
        (-3600, 0, Status.WARN, "3,600 s behind"),
    ],
)
def test_a_clock_that_is_seconds_away_is_told(seconds, margin, status, said):
    moment = now()
    found = judge_clock(moment, moment + timedelta(seconds=seconds), margin=margin)
    assert found.status is status
    assert said in found.detail


def test_a_home_that_is_not_there_yet_is_judged_by_the_folder_it_will_lie_in(tmp_path):
    assert space(tmp_path / "not" / "yet", needed=0, comfortable=0).status is Status.OK


def test_too_little_space_fails_and_little_space_warns(tmp_path):
    assert space(tmp_path, needed=2**60).status is Status.FAIL
    found = space(tmp_path, needed=0, comfortable=2**60)
    assert (found.status, "LKMONGO_HOME" in found.hint) == (Status.WARN, True)


def test_calls_that_wait_for_mongodb_are_told_once_they_are_over(tmp_path):
    record = SessionRecord(
        "call-1", UserScope(tenant_id="default", user_id="u-100"), "room", SessionStatus.ACTIVE, now()
    )
    call = Journal.create(journal_folder(tmp_path), record, owner="me", database="db")
    assert space(tmp_path, needed=0, comfortable=0).status is Status.OK
    call.close(delete=False)
    found = space(tmp_path, needed=0, comfortable=0)
    assert (found.status, found.hint) == (Status.WARN, "lkmongo sessions recover")
    assert found.detail.startswith("1 call waits for MongoDB")
    assert call.path.exists()


@pytest.mark.parametrize("below", [False, True])
def test_a_home_that_is_a_file_fails(tmp_path, below):
    (tmp_path / "home").write_text("")
    found = space(tmp_path / "home" / "below" if below else tmp_path / "home")
    assert (found.status, found.detail) == (Status.FAIL, f"{tmp_path / 'home'} is not a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_to_fails(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written to" in space(tmp_path / "home").detail
    finally:
        tmp_path.chmod(0o700)


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("x", "a/y"):
        (tmp_path / name).write_bytes(b"12345")
    assert size(tmp_path) == 10


@pytest.mark.parametrize(
    ("counted", "status", "said"),
    [
        ([Coverage("knowledge", 0, 0, 0)], Status.OK, "none yet"),
        ([Coverage("knowledge", 3, 0, 0), Coverage("memories", 4, 0, 0)], Status.OK, "all 7 are of m"),
        ([Coverage("knowledge", 3, 1, 0)], Status.WARN, "1 document has no vector of m"),
        (
            [Coverage("knowledge", 3, 1, 2), Coverage("memories", 4, 0, 0)],
            Status.WARN,
            "3 documents have no vector of m",
        ),
        ([Coverage("knowledge", None, None, None)], Status.WARN, "too many to count"),
        ([Coverage("knowledge", None, None, None), Coverage("memories", 4, 4, 0)], Status.WARN, "4 documents"),
    ],
)  # fmt: skip
def test_vectors_that_are_missing_are_counted(counted, status, said):
    found = judge_vectors(counted, "m")
    assert found.status is status
    assert said in found.detail
    assert len(found.facts) == len(counted) or not found.facts


def test_audio_devices_are_listed_by_what_they_are_for():
    both = Device(0, "headset", inputs=1, outputs=2)
    speaker = Device(1, "speaker", inputs=0, outputs=2)
    found = judge_devices([both, speaker])
    assert found.detail == "1 to speak into, 2 to hear with"
    assert found.facts == ("input: headset", "output: headset", "output: speaker")
    assert judge_devices([]).status is Status.SKIP


# -- checks


async def test_a_look_that_takes_too_long_is_not_ready():
    check = await run("x", lambda: asyncio.Event().wait(), deadline=0.01)
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.NOT_READY)
    assert "no answer within 0.01 s" in check.detail


async def test_a_timeout_that_is_not_ours_is_told_as_what_it_is():
    async def look():
        raise TimeoutError("the socket")

    check = await run("x", look, deadline=None)
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.FAILED)
    assert "TimeoutError: the socket" in check.detail


async def test_what_goes_wrong_unexpectedly_is_a_failure_and_hides_its_secrets():
    async def look():
        raise ValueError(f"bad {SECRET} for mongodb://u:pw123@h")

    check = await run("x", look, secrets=[SECRET])
    assert check.status is Status.FAIL
    assert "ValueError: bad *** for mongodb://***@h" in check.detail
    assert "--debug" in check.hint


async def test_secrets_are_hidden_in_facts_and_hints():
    async def look():
        return fail("a", f"use {SECRET}", [f"it is {SECRET}"])

    assert SECRET not in str(await run("x", look, secrets=[SECRET]))


async def test_a_check_is_timed():
    async def look():
        await asyncio.sleep(0.02)
        return ok("fine")

    assert (await run("x", look)).seconds >= 0.02


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (AuthenticationError("a"), ExitCode.AUTHENTICATION),
        (NotReadyError("a"), ExitCode.NOT_READY),
        (SettingsError("a"), ExitCode.FAILED),
    ],
)
def test_a_failure_keeps_of_its_error_what_counts(error, exit_code):
    error.why, error.hint = "b", "c"
    found = failed(error)
    assert (found.status, found.detail, found.hint) == (Status.FAIL, "a: b", "c")
    assert found.exit_code is exit_code


@pytest.mark.parametrize(
    ("codes", "exit_code", "named"),
    [
        ([], None, ""),
        ([1], 1, "p0"),
        ([3], 3, "p0"),
        ([3, 4, 3], 4, "p1"),
        ([4, 1, 3], 1, "p1"),
    ],
)
def test_the_exit_code_is_that_of_the_worst(codes, exit_code, named):
    checks = [Check("fine", Status.OK, ""), Check("so so", Status.WARN, "", "x"), Check("unused", Status.SKIP, "")]
    checks += [Check(f"p{n}", Status.FAIL, "broken", f"mend p{n}", exit_code=ExitCode(c)) for n, c in enumerate(codes)]
    error = worst(checks)
    if exit_code is None:
        assert error is None
        return
    assert error.exit_code == exit_code
    assert (error.why, error.hint) == (f"{named}: broken", f"mend {named}")
    assert all(f"p{n}" in error.message for n in range(len(codes)))


def test_parts_are_chosen_by_name_and_by_group():
    assert choose([]) == list(NAMES)
    assert choose(["indexes.search", "disk"]) == ["disk", "indexes.search"]
    group = choose(["mongodb"])
    assert group[0] == "mongodb"
    assert "mongodb.clock" in group
    assert "indexes" not in group
    with pytest.raises(UsageError, match="'mongo'") as caught:
        choose(["disk", "mongo"])
    assert "mongodb.privileges" in caught.value.hint


# -- encryption in transit


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"MONGODB_URI": URI},
        {"MONGODB_URI": "mongodb://db.example.com/?tls=true"},
        {"MONGODB_URI": "mongodb://127.0.0.1:27017,localhost"},
        {"LIVEKIT_URL": "ws://localhost:7880", "LKMONGO_LLM_BASE_URL": "http://127.0.0.1:11434/v1"},
        {"LIVEKIT_URL": "wss://shop.livekit.cloud"},
    ],
)
def test_what_stays_here_or_is_encrypted_is_fine(environ):
    assert in_transit(Settings.load(environ)).status is Status.OK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONGODB_URI", f"mongodb://app:{SECRET}@db.example.com/"),
        ("MONGODB_URI", "mongodb://localhost,db.example.com/?ssl=false"),
        ("MONGODB_URI", f"mongodb+srv://app:{SECRET}@db.example.com/?appName=x&tls=false"),
        ("LIVEKIT_URL", "ws://livekit.example.com:7880"),
        ("LKMONGO_LLM_BASE_URL", f"http://models.example.com/v1?key={SECRET}"),
    ],
)
def test_what_another_machine_gets_unencrypted_is_named_without_secrets(name, value):
    found = in_transit(Settings.load({name: value}))
    assert found.status is Status.WARN
    assert name in found.detail
    assert "example.com" in found.facts[0]
    assert SECRET not in repr(found)
