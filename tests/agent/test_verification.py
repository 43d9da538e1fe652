"""A PIN on the keypad: it says who calls, and is found nowhere afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from lkmongo import deadlines
from lkmongo.agent import verification as words
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.phone_caller import PhoneCaller
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.status_line import languages
from lkmongo.agent.typed_text import TypedText
from lkmongo.agent.verification import connect_keypad
from lkmongo.confidential import asks_for_pin
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import UserScope
from lkmongo.outbox import journal
from lkmongo.phone_numbers import WITHHELD, PhoneNumber
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.tenants import Tenants
from lkmongo.trust import Level
from tests.fake_llm import ScriptedLLM, calls
from tests.overlaps import outbox_of
from tests.talk import Talk, talking
from tests.telephone import CALLER, Telephone
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")
NUMBER = PhoneNumber("+4930901820")
PIN, WRONG = "904173", "904174"


@dataclass
class Line(Talk):
    """A call by telephone that is going on."""

    telephone: Telephone

    @property
    def phone(self) -> PhoneCaller:
        """What their number says of them."""
        assert self.call.caller.phone
        return self.call.caller.phone

    async def begin(self, name: str, prompt: str | None = "pin") -> None:
        """Let the model call a tool, until that has asked for keys."""
        before = len(self.prompts)
        self.llm.script = calls((name, {}))
        self.session.generate_reply(user_input=f"call {name}")
        if prompt:
            await until(lambda: self.prompts[before:] == [getattr(languages()["en"], prompt)])

    @property
    def prompts(self) -> list[str]:
        """What the caller was asked for by now."""
        asked = {languages()["en"].pin, languages()["en"].new_pin, languages()["en"].pin_again}
        return [turn.content for turn in self.call.recorder.turns if turn.content in asked]

    async def result(self, number: int = 1) -> tuple[str, bool]:
        """What the tool returned that was called as this one, and whether it is an error."""
        await until(lambda: len(self.results) >= number)
        return self.results[number - 1]

    @property
    def results(self) -> list[tuple[str, bool]]:
        """What tools have returned."""
        outputs = [item for item in self.session.history.items if item.type == "function_call_output"]
        return [(item.output, item.is_error) for item in outputs]

    async def asked(self, prompt: str) -> None:
        """Until a tool has asked for this."""
        await until(lambda: self.prompts[-1] == getattr(languages()["en"], prompt))

    async def says(self, text: str) -> None:
        """Say something while a tool waits, and wait for the answer."""
        self.session.generate_reply(user_input=text)

        def answered() -> bool:
            turns = self.call.recorder.turns
            at = [place for place, turn in enumerate(turns) if turn.content == text]
            return any(turn.role == "assistant" for turn in turns[at[0] :]) if at else False

        await until(answered)

    @property
    def pressed(self) -> list[str]:
        """The caller's turns, but those with which the script is told to call a tool."""
        turns = [turn.content or "" for turn in self.call.recorder.turns if turn.role == "user"]
        return [each for each in turns if not each.startswith("call ")]

    async def turns(self, number: int) -> list[str]:
        """Wait for as many of them."""
        await until(lambda: len(self.pressed) >= number)
        return self.pressed


@pytest.fixture(autouse=True)
def _endless(monkeypatch, store) -> None:
    """No pause ends anything, so that a busy machine decides nothing."""
    monkeypatch.setattr(deadlines, "KEYPAD_PAUSE", 3_600)
    monkeypatch.setattr(deadlines, "KEYPAD_ENTRY_PAUSE", 3_600)
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


@pytest.fixture
def line(store, tmp_path):
    """Make a call by telephone; its journal stays on disk as long as it lasts."""

    @asynccontextmanager
    async def line(pin: str | None = PIN, people=(ROBIN,), number=NUMBER, script=None) -> AsyncIterator[Line]:
        for scope in people:
            await store.phones.link(scope, NUMBER, by="staff")
        if pin:
            await store.pins.set(ROBIN, pin, by="staff")
        embedder, guest = create_embedder("local"), UserScope.guest("default")
        outbox = outbox_of(store, guest, "call-1", "room", folder=tmp_path)
        recorder, caller = Recorder(outbox), Caller(store, embedder, outbox, guest=True)
        call = CallerSession("call-1", "room", caller, store, ExactStrategy(store.db, embedder), recorder)
        caller.phone, caller.may_phone = PhoneCaller(call, Tenants()), True
        caller.phone.calls_from(number)
        await caller.preload()
        telephone = Telephone()
        async with AsyncExitStack() as stack:
            talk = await stack.enter_async_context(talking(call, ScriptedLLM(script or calls()), Assistant()))
            connect_keypad(call, talk.session, telephone.room, lambda: CALLER, TypedText())
            yield Line(talk.session, call, talk.llm, talk.job, telephone)
        await caller.flush(2)
        await recorder.close("hang-up", dict)
        await recorder.lease.release()
        await embedder.close()

    return line


async def everything(store) -> str:
    """All that the database holds, of any collection."""
    found = [await store.db[name].find({}).to_list() for name in await store.db.list_collection_names()]
    return json.dumps(found, default=str)


def requested(model: ScriptedLLM) -> str:
    """All that the model was ever told."""
    return json.dumps([context.to_dict(exclude_function_call=False) for context in model.contexts], default=str)


# ---------------------------------------------------------------- the tool


async def test_a_pin_that_is_asked_for_verifies_and_is_found_nowhere(store, line, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    on_disk = b""
    async with line() as call:
        await call.begin("verify_caller")
        assert call.phone.level == Level.RECOGNISED
        call.telephone.press(PIN + "#")
        assert await call.result() == (words.RIGHT, False)
        assert call.phone.level == Level.VERIFIED
        call.llm.script = calls()
        call.telephone.press("2#")
        assert await call.turns(1) == ["pressed 2"]
        await call.begin("set_pin", "new_pin")
        call.telephone.press(WRONG + "#")
        await call.asked("pin_again")
        call.telephone.press(WRONG + "#")
        assert await call.result(2) == (words.SET, False)
        on_disk = b"".join(path.read_bytes() for path in journal.files(tmp_path))
        model = requested(call.llm)
    assert await store.pins.verify(ROBIN, NUMBER, WRONG) == "right"
    record = await store.sessions.get(ROBIN, "call-1")
    logged = [str(vars(each)) + each.getMessage() for each in caplog.records if each.name.startswith(("lkm", "livek"))]
    assert "pressed 2" in await everything(store), "it is looked for where turns are"
    for pin in (PIN, " ".join(PIN), WRONG, " ".join(WRONG)):
        assert pin not in await everything(store)
        assert pin.encode() not in on_disk
        assert pin not in model
        assert pin not in repr(record)
        assert not [each for each in logged if pin in each]


@pytest.mark.parametrize(
    ("keys", "answer"),
    [(WRONG + "#", words.WRONG), ("904#", words.NOT_A_PIN), ("9041730000#", words.NOT_A_PIN), ("#", words.NOT_A_PIN)],
)
async def test_what_is_not_the_pin_verifies_nobody_and_may_be_followed_by_what_is(line, keys, answer):
    async with line() as call:
        for number, (typed, expected) in enumerate([(keys, (answer, True)), (PIN + "#", (words.RIGHT, False))], 1):
            await call.begin("verify_caller")
            call.telephone.press(typed)
            assert await call.result(number) == expected
        assert call.pressed == []


async def test_too_many_wrong_ones_lock_it_and_staff_learn_that_there_was_somebody(store, line, caplog):
    async with line() as call:
        for _ in range(5):
            assert await store.pins.verify(ROBIN, NUMBER, WRONG) == "wrong"
        caplog.clear()
        await call.begin("verify_caller")
        call.telephone.press(PIN + "#")
        assert await call.result() == (words.LOCKED, True)
        assert call.phone.level == Level.RECOGNISED
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING and each.name.startswith("lkmongo")]
    (warning,) = [each.getMessage() for each in warnings]
    assert "phone pin" in warning
    assert not any(told in caplog.text for told in (ROBIN.user_id, NUMBER.text, NUMBER.text[1:], PIN))


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"pin": None}, words.NO_PIN),
        ({"people": (ROBIN, KIM)}, words.WHO),
        ({"people": (), "number": WITHHELD}, words.NO_PIN),
        ({"people": ()}, words.NO_PIN),
    ],
)
async def test_without_a_pin_or_somebody_whose_it_would_be_nothing_is_asked(line, given, answer):
    async with line(**given) as call:
        assert await call.tool("verify_caller") == (answer, True)


async def test_no_pin_within_the_time_is_said_and_so_is_that_the_keypad_is_to_be_used(line, monkeypatch):
    async with line() as call:
        monkeypatch.setattr(call.call.keypad.ask_secret.__func__, "__defaults__", (0.05,))
        assert await call.tool("verify_caller") == (words.NOTHING, True)
        assert "said aloud does not count" in words.NOTHING


async def test_the_conversation_goes_on_while_a_pin_is_waited_for_and_the_tool_waits_once(line):
    async with line() as call:
        await call.begin("verify_caller")
        await call.begin("verify_caller", prompt=None)
        assert await call.result() == (words.IN_USE, True)
        call.llm.script = calls()
        await call.says("what is it good for?")
        await until(lambda: "Nothing to do." in [turn.content for turn in call.call.recorder.turns])
        call.telephone.press(PIN + "#")
        assert await call.result(2) == (words.RIGHT, False)


async def test_if_they_turn_out_to_be_somebody_else_meanwhile_nobody_is_verified(store, line, monkeypatch):
    async with line() as call:
        verify = store.pins.verify

        async def slowly(*given):
            result = await verify(*given)
            await call.phone.deny()
            return result

        monkeypatch.setattr(type(store.pins), "verify", lambda _, *given: slowly(*given))
        await call.begin("verify_caller")
        call.telephone.press(PIN + "#")
        assert await call.result() == (words._CHANGED, True)
        assert call.phone.level == Level.RECOGNISED


async def test_if_it_cannot_be_compared_that_is_said(store, line, monkeypatch):
    async def away(*_):
        raise DatabaseUnavailableError

    async with line() as call:
        monkeypatch.setattr(type(store.pins), "verify", away)
        await call.begin("verify_caller")
        call.telephone.press(PIN + "#")
        assert await call.result() == (words.NOT_CHECKED, True)
        call.telephone.press(PIN + "#")
        assert await call.turns(1) == ["typed a PIN on the keypad, but it could not be checked"]


# ---------------------------------------------------------------- setting one


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["904173", "904174"], words.NOT_SAME),
        (["1234"], "That PIN is too easy to guess."),
        (["90"], words.NOT_A_PIN),
    ],
)
async def test_a_pin_is_set_that_was_typed_twice_and_is_not_the_first_to_be_tried(store, line, typed, answer):
    async with line(None) as call:
        assert await call.call.verify()
        await call.begin("set_pin", "new_pin")
        for pin, prompt in zip(typed, ("new_pin", "pin_again"), strict=False):
            await call.asked(prompt)
            call.telephone.press(pin + "#")
        assert await call.result() == (answer, True)
        assert not await store.pins.has(ROBIN)


async def test_who_is_not_verified_sets_none_whatever_the_model_calls(store, line):
    async with line() as call:
        assert await call.call.identify(ROBIN)
        call.call.caller.gate.level = Level.NAMED
        assert await call.tool("set_pin") == (words.NOT_OFFERED, True)
        call.call.caller.gate.level = Level.VERIFIED
        assert await call.tool("verify_caller") == (words.CONFIRMED, False)
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"


async def test_each_tool_is_offered_where_it_fits_and_none_without_a_telephone(line):
    def offered(call: Line) -> set[str]:
        tools = call.call._attachment.offered(list(call.session._tools))
        return {tool.id for tool in tools} & {"verify_caller", "set_pin"}

    async with line() as call:
        for level, tool in [
            (Level.RECOGNISED, "verify_caller"),
            (Level.NAMED, "verify_caller"),
            (Level.VERIFIED, "set_pin"),
        ]:
            call.call.caller.gate.level = level
            assert offered(call) == {tool}
        call.call.caller.phone = None
        assert offered(call) == set()
        assert await call.tool("verify_caller") == (words.NOT_OFFERED, True)
        call.telephone.press("904173#")
        assert await call.turns(1) == ["pressed 9 0 4 1 7 3"], "whoever comes without a telephone has no PIN to type"


# ---------------------------------------------------------------- keys that nobody asked for


async def test_a_pin_that_nobody_asked_for_verifies_and_is_a_turn_without_its_digits(store, line):
    async with line() as call:
        call.telephone.press(f"{WRONG}#2#{PIN}#")
        assert await call.turns(3) == [
            "typed a PIN on the keypad, and it is not right",
            "pressed 2",
            "typed a PIN on the keypad, and it is right",
        ]
        assert call.phone.level == Level.VERIFIED
        call.telephone.press(f"{PIN}#")
        assert (await call.turns(4))[-1] == f"pressed {' '.join(PIN)}", "from now on nothing is taken for a PIN"


@pytest.mark.parametrize(
    ("keys", "asked", "turn"),
    [
        (PIN, True, "typed a PIN on the keypad, and it is right"),
        (PIN, False, "typed a PIN on the keypad, but not the hash key after it"),
        ("90", True, "typed a PIN on the keypad that has not four to eight digits"),
        ("904173000", True, "typed a PIN on the keypad that has not four to eight digits"),
        ("9", True, "pressed 9"),
        ("904", False, "pressed 9 0 4"),
        ("9041730001", False, "pressed 9 0 4 1 7 3 0 0 0 1"),
        ("90*41", True, "pressed 9 0 * 4 1"),
    ],
)
async def test_what_is_taken_for_a_pin_depends_on_its_length_and_on_what_was_asked(
    line, monkeypatch, keys, asked, turn
):
    monkeypatch.setattr(deadlines, "KEYPAD_PAUSE", 0.01)
    monkeypatch.setattr(deadlines, "KEYPAD_ENTRY_PAUSE", 0.01)
    question = "Please type your PIN." if asked else "How can I help?"
    async with line(script=calls(greeting=question)) as call:
        await until(lambda: question in [turn.content for turn in call.call.recorder.turns])
        call.telephone.press(keys)
        assert await call.turns(1) == [turn]


@pytest.mark.parametrize("keys", ["904173#", "904173"])
@pytest.mark.parametrize(
    ("given", "turn"),
    [
        ({"pin": None}, "pressed 9 0 4 1 7 3"),
        ({"people": (), "number": WITHHELD}, "pressed 9 0 4 1 7 3"),
        ({"people": ()}, "pressed 9 0 4 1 7 3"),
        ({"people": (ROBIN, KIM)}, None),
    ],
)
async def test_digits_of_who_has_no_pin_are_a_turn_and_those_of_one_of_several_people_are_not(
    line, monkeypatch, keys, given, turn
):
    monkeypatch.setattr(deadlines, "KEYPAD_PAUSE", 0.01)
    monkeypatch.setattr(deadlines, "KEYPAD_ENTRY_PAUSE", 0.01)
    async with line(**given) as call:
        call.telephone.press(keys)
        (said,) = await call.turns(1)
        assert said == turn or (turn is None and "9" not in said and said.startswith("typed a PIN"))


async def test_a_tool_that_waits_for_a_number_gets_it_although_it_may_be_a_pin(line):
    async with line() as call:
        asking = asyncio.create_task(call.call.keypad_digits(6))
        await asyncio.sleep(0)
        call.telephone.press("904173")
        assert await asking == "904173"
        assert call.pressed == []


async def test_half_a_pin_at_the_end_of_a_call_is_not_recorded(store, line):
    async with line() as call:
        call.telephone.press("2#")
        await call.turns(1)
        call.telephone.press("9041")
    turns = await store.sessions.turns(call.call.scope, "call-1")
    assert [turn.content for turn in turns if turn.role == "user"] == ["pressed 2"]


# ---------------------------------------------------------------- spoken


async def test_a_pin_that_is_said_while_it_is_waited_for_is_masked_wherever_it_stands_and_verifies_nobody(
    store, line, tmp_path
):
    async with line() as call:
        await call.begin("verify_caller")
        call.llm.script = calls()
        await call.says("um, one moment")
        await call.says("well, it must be 904173")
        await call.says("nine oh four one seven three, I mean")
        on_disk = b"".join(path.read_bytes() for path in journal.files(tmp_path))
        assert call.phone.level == Level.RECOGNISED
        call.telephone.press(WRONG + "#")
        assert await call.result() == (words.WRONG, True)
        await call.says("904173 it was")
    turns = await store.sessions.turns(call.call.scope, "call-1")
    said = [turn.content for turn in turns if turn.role == "user"]
    assert said[1:] == ["um, one moment", "well, it must be [secret]", "[secret], I mean", "[secret] it was"]
    told = str([context.items for context in call.llm.contexts])
    assert "it must be [secret]" in told
    assert "904173" not in told
    assert "nine oh four" not in told
    assert "904173" not in await everything(store)
    assert b"904173" not in on_disk
    assert (await store.sessions.get(call.call.scope, "call-1")).redacted["secret"] >= 3


def test_what_is_asked_of_the_caller_asks_for_a_pin_in_the_language_of_most():
    for language in languages().values():
        for prompt in (language.pin, language.new_pin, language.pin_again):
            assert prompt.endswith(".")
            assert "pin" in prompt.casefold()
            assert len(prompt) <= 100
    assert all(asks_for_pin(languages()[code].pin) for code in ("en", "de", "fr", "es"))
    assert not any(asks_for_pin(sentence) for sentence in (words.RIGHT, words.WRONG, words.LOCKED, words.NO_PIN))
