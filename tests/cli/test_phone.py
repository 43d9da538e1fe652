"""`lkmongo phone`: whose number it is and who has which PIN, and that neither can be read anywhere."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pexpect
import pytest

from lkmongo.model import TenantScope, UserScope, now
from lkmongo.phone_numbers import parse_number
from lkmongo.store.people.audit import Audit, AuditFilter
from tests.people import anywhere, furnish

ROBIN = UserScope(tenant_id="default", user_id="robin-1764")
KIM = UserScope(tenant_id="default", user_id="kim-88")
ELSEWHERE = UserScope(tenant_id="other", user_id="robin-1764")
TYPED, E164, LAST = "+49 30 5550 1767", "+493055501767", "67"
SECOND = "+493055501712"
PIN = "860417"
PARTS = ("3055501767", "5550 17", "55501767", "30 5550", "+4930")
"""What must be seen nowhere of the number."""


def number(text=E164):
    return parse_number(text)


@pytest.fixture
async def people(store):
    """Two people of one tenant, and one of another with the id of the first."""
    for scope in (ROBIN, KIM, ELSEWHERE):
        await furnish(store, scope, slots=["city"], calls=[])
    return store


async def trail(store):
    return [(each.action, dict(each.counts)) async for each in Audit(store.db).all(AuditFilter())]


async def test_a_number_is_linked_looked_up_listed_and_unlinked(people, run):
    linked = run("phone", "link", TYPED, "robin-1764")
    assert (linked.code, linked.stdout, linked.stderr) == (
        0,
        "Linked the number …67 to robin-1764 in tenant default\n",
        "",
    )
    (one,) = run("phone", "lookup", E164, "--json").json
    assert {name: one[name] for name in ("user_id", "tenant_id", "last_digits", "by", "lapsed", "has_pin")} == {
        "user_id": "robin-1764",
        "tenant_id": "default",
        "last_digits": LAST,
        "by": "staff",
        "lapsed": False,
        "has_pin": False,
    }
    assert (one["level"], one["can_reach"], one["locked_until"]) == ("recognised", "named", None)
    plain = run("phone", "list", "robin-1764").stdout.splitlines()
    assert plain[0] == "user_id\tlast_digits\tlinked_at\tlast_used_at\tby\tlapsed\thas_pin\tlocked_until"
    assert re.fullmatch(r"robin-1764\t67\t\S+ \S+\t\S+ \S+\tstaff\tno\tno\t", plain[1])
    assert run("phone", "lookup", TYPED, "--tenant", "other").code == 5
    again = run("phone", "link", TYPED, "robin-1764", "--json").json
    assert (again["changed"], again["last_digits"]) == (False, LAST)
    gone = run("phone", "unlink", "robin-1764", TYPED, "--yes", "--json").json
    assert (gone["unlinked"], gone["last_digits"]) == (1, [LAST])
    assert await people.phones.of_person(ROBIN) == []


async def test_a_number_of_nobody_is_5_and_is_in_the_trail(people, run):
    result = run("phone", "lookup", TYPED, "--json")
    assert (result.code, result.stdout) == (5, "")
    error = json.loads(result.stderr)["error"]
    assert error["message"] == "the number …67 is linked to nobody in tenant default"
    assert "lkmongo phone link" in error["hint"]
    assert await trail(people) == [("phone lookup", {})]


async def test_a_number_may_be_several_peoples(people, run):
    assert run("phone", "link", TYPED, "kim-88", "--json").json["also_of"] == []
    linked = run("phone", "link", TYPED, "robin-1764")
    assert linked.stdout.splitlines()[1] == "  it is also linked to kim-88: a caller is asked who they are"
    rows = run("phone", "lookup", TYPED, "--json").json
    assert {row["user_id"] for row in rows} == {"kim-88", "robin-1764"}
    looked = [each for each in await Audit(people.db).newest(AuditFilter(scope=KIM)) if each.action == "phone lookup"]
    assert len(looked) == 1, "each of them was looked at"
    run("phone", "unlink", "kim-88", "--yes")
    assert [row["user_id"] for row in run("phone", "lookup", TYPED, "--json").json] == ["robin-1764"]


async def test_one_that_was_not_used_for_long_has_lapsed_and_linking_it_again_counts_as_a_use(people, run):
    await people.phones.link(ROBIN, number(), by="call", at=now() - timedelta(days=200))
    await people.phones.link(KIM, number(SECOND), by="call", at=now() - timedelta(days=100))
    (one,) = run("phone", "lookup", TYPED, "--json").json
    assert (one["lapsed"], one["level"], one["can_reach"]) == (True, None, None)
    assert [row["lapsed"] for row in run("phone", "list", "--json").json] == [False, True]
    within = run("phone", "list", "--json", env={"LKMONGO_PHONE_RECYCLED_AFTER": "365d"}).json
    assert [row["lapsed"] for row in within] == [False, False]
    run("phone", "link", TYPED, "robin-1764")
    assert run("phone", "lookup", TYPED, "--json").json[0]["lapsed"] is False


async def test_numbers_are_listed_a_page_at_a_time_and_those_of_one_person_are_not_parted(people, run):
    for position in range(4):
        scope = UserScope(tenant_id="default", user_id=f"u-{position}")
        await people.phones.link(scope, number(SECOND), by="call")
        await people.phones.link(scope, number(), by="call")
    await people.phones.link(ELSEWHERE, number(), by="call")
    first = run("phone", "list", "--limit", "3")
    assert [line.split("\t")[0] for line in first.stdout.splitlines()] == ["user_id", "u-0", "u-0"]
    assert first.stderr == "showing 2 of 8; continue with --after u-0\n"
    assert [row["user_id"] for row in run("phone", "list", "--limit", "1", "--json").json] == ["u-0", "u-0"]
    rest = run("phone", "list", "--after", "u-0", "--json").json
    assert [row["user_id"] for row in rest] == ["u-1", "u-1", "u-2", "u-2", "u-3", "u-3"]
    assert run("phone", "list", "--after", "u-3").stderr == "No more\n"
    assert run("phone", "list", "--tenant", "third").stderr == "No number is linked to anybody in tenant third\n"
    assert run("phone", "list", "robin-1764").stderr == "No number is linked to robin-1764 in tenant default\n"
    assert run("phone", "list", "u-1", "--after", "u-0").code == 2


async def test_nobody_is_linked_who_is_not_known_unless_they_are_new(people, run):
    refused = run("phone", "link", TYPED, "robin-1746")
    assert refused.code == 5
    assert "nothing is stored about robin-1746" in refused.stderr
    assert "did you mean robin-1764?" in refused.stderr
    assert run("phone", "link", TYPED, "u-7", "--new").code == 0
    assert run("users", "show", "u-7", "--json").json["phones"][0]["last_digits"] == LAST


async def test_unlinking_asks_says_which_and_finds_by_the_last_digits(people, run):
    for each in (E164, SECOND, "+493055501867"):
        await people.phones.link(ROBIN, number(each), by="call")
    await people.phones.link(KIM, number(), by="call")
    asked = run("phone", "unlink", "robin-1764", "--digits", LAST)
    assert asked.code == 2
    assert "Unlink 2 numbers (…67, …67) of robin-1764 in tenant default?" in asked.stderr
    assert "add --yes" in asked.stderr
    dry = run("phone", "unlink", "robin-1764", "--dry-run", "--json").json
    assert (dry["unlinked"], sorted(dry["last_digits"])) == (0, ["12", "67", "67"])
    assert len(await people.phones.of_person(ROBIN)) == 3
    done = run("phone", "unlink", "robin-1764", TYPED, "--yes")
    assert done.stdout == "Unlinked 1 number (…67) of robin-1764 in tenant default\n"
    assert run("phone", "unlink", "robin-1764", "--digits", LAST, "--yes", "--json").json["unlinked"] == 1
    missing = run("phone", "unlink", "robin-1764", TYPED, "--yes")
    assert missing.code == 5
    assert "no number that ends in 67 is linked to robin-1764 in tenant default" in missing.stderr
    assert "try: lkmongo phone list robin-1764" in missing.stderr
    assert run("phone", "unlink", "nobody", "--yes").code == 5
    assert [each.last_digits for each in await people.phones.of_person(ROBIN)] == ["12"]
    assert len(await people.phones.of_person(KIM)) == 1, "theirs is theirs still"
    for wrong in (["--digits", "1767"], ["--digits", "1"], [TYPED, "--digits", LAST]):
        result = run("phone", "unlink", "robin-1764", *wrong, "--yes")
        assert result.code == 2
        assert "1767" not in result.stderr


async def test_a_number_is_taken_from_stdin_and_from_an_answer(people, run, at_terminal):
    assert run("phone", "link", "-", "robin-1764", input=f"{TYPED}\nand more\n").code == 0
    assert run("phone", "lookup", "-", input=f"{E164}\n", env={}).code == 0
    assert run("phone", "lookup", "-").code == 2, "there is nothing"
    child = at_terminal("phone", "lookup", "-", "--json")
    child.expect("Telephone number: ")
    child.sendline(TYPED)
    child.expect_exact("robin-1764")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["lookup", "+49 30 5550 17"],
        ["lookup", "+49", "30", "5550", "1767"],
        ["lookup", "0305550-1767x"],
        ["lookup", TYPED, "--debug"],
        ["link", "robin-1764", TYPED],
        ["link", TYPED, TYPED],
        ["link", "+49", "30", "55501767", "robin-1764"],
        ["unlink", TYPED, "robin-1764", "--yes", "--debug"],
        ["unlink", "030 5550 1767", "--yes"],
        ["list", TYPED],
        ["pin", E164, "--generate"],
        ["pin", "robin-1764", PIN],
        ["pin", "robin-1764", "--pin", PIN],
        [TYPED],
        ["-493055501767"],
    ],
)
async def test_no_error_repeats_a_number_or_a_pin(people, run, arguments):
    for options in ([], ["--json"]):
        result = run("phone", *arguments, *options, env={"LKMONGO_PHONE_REGION": "DE"})
        assert result.code in {2, 5}, result.stderr
        for part in (*PARTS, "5550", "055501", PIN):
            assert part not in result.stdout + result.stderr, result.stderr


def test_nor_does_an_error_that_nobody_expected(run_inside, monkeypatch):
    def fail(text, _region):
        raise RuntimeError(f"cannot read {text}")

    monkeypatch.setattr("lkmongo.phone_numbers.parse_number", fail)
    result = run_inside("phone", "lookup", TYPED, "--debug")
    assert result.code == 1
    assert result.stderr.count("cannot read ***") == 2, "in the traceback and in the error"
    assert not any(part in result.stderr for part in PARTS)


async def test_a_number_and_a_pin_are_in_no_output_no_log_and_no_collection(people, run):
    reason = ["--reason", f"asked by {E164}", "--debug"]
    shown = [
        run("phone", "link", TYPED, "robin-1764", *reason),
        run("phone", "lookup", TYPED, *reason),
        run("phone", "list", *reason),
        run("phone", "pin", "robin-1764", "--stdin", *reason, input=f"{PIN}\n"),
        run("users", "show", "robin-1764", *reason),
        run("memory", "export", "robin-1764", *reason),
        run("audit", "export"),
        run("phone", "unlink", "robin-1764", TYPED, "--yes", *reason),
    ]
    assert {each.code for each in shown} == {0}, [each.stderr for each in shown if each.code]
    assert await anywhere(people, *PARTS, PIN) == []
    for each in shown:
        for part in (*PARTS, PIN):
            assert part not in each.stdout + each.stderr
    assert "asked by …67" in shown[6].stdout


async def test_a_pin_is_typed_twice_and_not_shown(people, at_terminal, run):
    child = at_terminal("phone", "pin", "robin-1764")
    child.expect("New PIN: ")
    child.sendline(PIN)
    child.expect("once more: ")
    child.sendline(PIN)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "Set the PIN of robin-1764 in tenant default" in child.before
    assert PIN not in child.before
    assert await people.pins.verify(ROBIN, None, PIN) == "right"
    assert run("phone", "list", "robin-1764").code == 0
    child = at_terminal("phone", "pin", "robin-1764")
    child.expect("New PIN: ")
    child.sendline("482913")
    child.expect("once more: ")
    child.sendline("482914")
    child.expect("the two PINs differ; nothing was changed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2
    assert await people.pins.verify(ROBIN, None, PIN) == "right"


async def test_a_pin_is_set_from_stdin_made_and_removed(people, run):
    await people.phones.link(ROBIN, number(), by="call")
    there = run("phone", "pin", "robin-1764", input=f"{PIN}\n")
    assert there.code == 2
    assert "add --stdin and pipe it in, or --generate" in there.stderr
    assert run("phone", "pin", "robin-1764", "--stdin", input="12\n").code == 2
    assert not await people.pins.has(ROBIN)
    result = run("phone", "pin", "robin-1764", "--stdin", "--json", input=f"{PIN}\n")
    assert result.json == {"user_id": "robin-1764", "tenant_id": "default", "dry_run": False, "changed": True}
    assert await people.pins.verify(ROBIN, None, PIN) == "right"
    (one,) = run("phone", "lookup", TYPED, "--json").json
    assert (one["has_pin"], one["can_reach"]) == (True, "verified")
    shown = run("users", "show", "robin-1764", "--json").json
    assert [(each["last_digits"], each["by"]) for each in shown["phones"]] == [(LAST, "call")]
    assert shown["phones"][0]["linked_at"] <= shown["phones"][0]["last_used_at"] <= shown["pin_set_at"]
    assert (shown["pin_set_by"], shown["pin_locked_until"]) == ("staff", None)
    assert not {"pins", "phone_attempts"} & shown.keys()
    day = datetime.fromisoformat(shown["phones"][0]["linked_at"]).astimezone().date()
    lines = run("users", "show", "robin-1764").stdout.splitlines()
    assert f"phones\t…{LAST} (since {day}, used {day})" in lines
    asked = run("users", "erase", "robin-1764")
    assert "1 phone number, 1 PIN of robin-1764" in asked.stderr
    assert run("phone", "pin", "robin-1764", "--generate", "--dry-run", "--json").json["pin"] is None
    made = run("phone", "pin", "robin-1764", "--generate")
    new = re.fullmatch(
        r"Set the PIN of robin-1764 in tenant default, instead of another: (\d{6})\n.*once.*\n", made.stdout
    )[1]
    assert made.stderr == ""
    assert await people.pins.verify(ROBIN, None, PIN) == "wrong"
    assert await people.pins.verify(ROBIN, None, new) == "right"
    other = run("phone", "pin", "robin-1764", "--generate", "--json").json["pin"]
    assert other != new
    assert run("phone", "pin", "robin-1764", "--clear").code == 2, "it asks"
    assert await people.pins.has(ROBIN)
    assert run("phone", "pin", "robin-1764", "--clear", "--dry-run", "--json").json["changed"] is True
    assert (
        run("phone", "pin", "robin-1764", "--clear", "--yes").stdout
        == "Removed the PIN of robin-1764 in tenant default\n"
    )
    assert run("phone", "pin", "robin-1764", "--clear").stdout == "robin-1764 has no PIN\n"
    assert not await people.pins.has(ROBIN)
    assert run("phone", "pin", "nobody", "--generate").code == 5
    assert run("phone", "pin", "robin-1764", "--generate", "--clear").code == 2


async def test_who_is_locked_out_is_shown_and_may_try_again_when_staff_say_so(people, run):
    await people.phones.link(ROBIN, number(), by="call")
    await people.pins.set(ROBIN, PIN, by="staff")
    assert run("phone", "pin", "robin-1764", "--unlock", "--json").json["changed"] is False
    for _ in range(5):
        assert await people.pins.verify(ROBIN, number(), "111111") == "wrong"
    assert await people.pins.verify(ROBIN, number(), PIN) == "locked"
    assert run("phone", "list", "robin-1764", "--json").json[0]["locked_until"] > now().isoformat()
    assert run("phone", "pin", "robin-1764", "--unlock", "--dry-run").code == 2
    assert await people.pins.verify(ROBIN, number(), PIN) == "locked"
    assert run("phone", "pin", "robin-1764", "--unlock").stdout == "robin-1764 may try again now\n"
    assert run("phone", "list", "robin-1764", "--json").json[0]["locked_until"] is None
    assert await people.pins.verify(ROBIN, number(), PIN) == "right"


async def test_a_number_that_was_tried_for_others_is_unlocked_and_the_others_are_not(people, run):
    await people.phones.link(ROBIN, number(), by="call")
    await people.phones.link(KIM, number(SECOND), by="call")
    for scope in (ROBIN, KIM):
        await people.pins.set(scope, PIN, by="staff")
    for _ in range(5):
        assert await people.pins.verify(KIM, number(), "111111") == "wrong"
    assert await people.pins.verify(ROBIN, number(), PIN) == "locked"
    rows = run("phone", "list", "--json").json
    assert [bool(row["locked_until"]) for row in rows] == [True, True], rows
    run("phone", "pin", "robin-1764", "--unlock")
    assert [bool(row["locked_until"]) for row in run("phone", "list", "--json").json] == [True, False]
    assert await people.pins.verify(ROBIN, number(), PIN) == "right"
    assert await people.pins.verify(KIM, number(SECOND), PIN) == "locked"


async def test_who_looks_and_changes_is_in_the_trail(people, run):
    run("phone", "link", TYPED, "robin-1764", "--reason", "T-1")
    run("phone", "list")
    run("phone", "list", "robin-1764")
    run("phone", "lookup", TYPED)
    run("phone", "pin", "robin-1764", "--generate")
    run("phone", "unlink", "robin-1764", "--dry-run")
    run("phone", "unlink", "robin-1764", "--yes")
    assert await trail(people) == [
        ("phone link", {"phones": 1}),
        ("phone list", {"phones": 1}),
        ("phone list", {"phones": 1}),
        ("phone lookup", {"phones": 1}),
        ("phone pin", {"pins": 1}),
        ("phone unlink --dry-run", {"phones": 1}),
        ("phone unlink", {"phones": 1}),
    ]
    about_robin = await Audit(people.db).newest(AuditFilter(scope=ROBIN))
    assert len(about_robin) == 6, "the list of everybody is about nobody"


def test_without_a_key_it_is_said_what_to_set(run, mongodb_uri):
    result = run("phone", "lookup", TYPED, env={"MONGODB_URI": mongodb_uri})
    assert result.code == 2
    assert "LKMONGO_ERASURE_KEY" in result.stderr


async def test_numbers_of_a_tenant_are_read_in_its_country(people, run, tmp_path):
    (tmp_path / "tenants.yaml").write_text("tenants: {other: {phone: {region: DE, recycled_after: 2d}}}")
    env = {"LKMONGO_TENANTS": "tenants.yaml"}
    assert run("phone", "link", "030 5550 1767", "robin-1764", env=env).code == 2
    assert run("phone", "link", "030 5550 1767", "robin-1764", "--tenant", "other", env=env).code == 0
    assert len(await people.phones.of_number(TenantScope("other"), number())) == 1
