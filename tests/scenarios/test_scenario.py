"""Scenario files: what is taken, and every mistake with its line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lkmongo.model import UserScope
from lkmongo.scenarios.days import filled
from lkmongo.scenarios.reading import ScenarioError, load_scenarios
from lkmongo.scenarios.scenario import Wanted

WHOLE = """\
name: remembers a colour
model: configured
seeds: shop
calls:
  - caller: robin
    tenant: hotel
    greeting: { matches: "^Hello", not_matches: "again" }
    says:
      - "My favourite colour is teal."
      - say: What is my favourite colour?
        answer: teal
        tools: [recall_detail, { name: lookup_order, arguments: { order_id: 1001 } }]
    never: [blue]
    killed: true
  - caller: robin
    tenant: hotel
    resumes: true
    restored: [teal]
    says: [Hello]
  - guest: true
    says: [Hello]
after:
  - caller: robin
    tenant: hotel
    remembered: { Favorite Color: teal, name: { matches: R } }
    not_remembered: [card number, "4111 1111"]
    restored: [teal]
"""
ROBIN = UserScope(tenant_id="hotel", user_id="robin")


@pytest.fixture
def load(tmp_path):
    def load(text: str):
        path = tmp_path / "colour.yaml"
        path.write_text(text)
        (scenario,) = load_scenarios([path])
        return scenario

    return load


@pytest.fixture
def problems(load, tmp_path):
    """The problems of a file, without its folder."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ScenarioError) as caught:
            load(text)
        listed = [caught.value.message, *(caught.value.why or "").splitlines()]
        assert caught.value.exit_code == 2
        return [each.replace(f"{tmp_path}/", "") for each in listed]

    return problems


def test_everything_that_can_be_said(load, tmp_path):
    scenario = load(WHOLE)
    assert (scenario.name, scenario.model, scenario.seeds) == ("remembers a colour", "configured", tmp_path / "shop")
    first, second, guest = scenario.calls
    assert (first.scope, first.killed, first.never, first.line) == (ROBIN, True, ("blue",), 5)
    assert first.greeting == Wanted(matches="^Hello", not_matches="again")
    assert [(said.line, said.say) for said in first.says] == [
        (9, "My favourite colour is teal."),
        (10, "What is my favourite colour?"),
    ]
    assert first.says[0].tools is None
    recall, order = first.says[1].tools
    assert (recall.name, order.name, order.arguments) == (
        "recall_detail",
        "lookup_order",
        {"order_id": Wanted("1001")},
    )
    assert (second.resumes, second.restored) == (True, ("teal",))
    assert guest.guest
    (after,) = scenario.after
    assert after.scope == ROBIN
    assert after.stored.remembered == {"favorite_color": Wanted("teal"), "name": Wanted(matches="R")}
    assert (after.stored.not_remembered, after.restored) == (("card number", "4111 1111"), ("teal",))
    assert not scenario.is_scripted


MEMORY = """\
calls:
  - caller: robin
    later: 12
    says: [My city is Oslo., Thank you.]
    learned:
      summary: The caller lives in Oslo.
      topics: [city]
      facts: [{ kind: new, label: city, content: Oslo, quote: 1, confidence: 0.9, since: "{day-3}" }]
      commitments: [{ text: send the map, by: assistant, quote: 2 }]
      closed: [call back]
    after:
      remembered: { city: Oslo }
      formerly: { City: Bergen }
      summary: { matches: Oslo }
      commitments: []
      nothing: true
  - { staff: set, caller: robin, label: city, content: Rome }
  - { staff: erase, caller: robin }
"""


def test_everything_that_can_be_said_of_what_is_learned_and_stored(load):
    scenario = load(MEMORY)
    call, fix, erase = scenario.steps
    assert scenario.calls == (call,)
    assert scenario.is_scripted
    assert (call.later, call.learned.summary, call.learned.closed) == (12, "The caller lives in Oslo.", ("call back",))
    assert call.learned.facts[0]["confidence"] == 0.9
    assert call.after.formerly == {"city": Wanted("Bergen")}
    assert (call.after.summary, call.after.commitments, call.after.nothing) == (Wanted(matches="Oslo"), (), True)
    assert (fix.deed, fix.label, fix.content, fix.line) == ("set", "city", "Rome", 17)
    assert (erase.deed, erase.scope.user_id, erase.label) == ("erase", "robin", None)


def test_a_day_fits_however_it_is_written():
    day = datetime.now(UTC).date() - timedelta(days=40)
    for written in (day.isoformat(), f"{day.day} {day:%B %Y}", f"{day:%B} {day.day}, {day.year}"):
        assert Wanted("since {day-40}").fits(f"Lisbon, since {written}.")
        assert Wanted(matches="since {day-40}\\.$").fits(f"Lisbon, since {written}.")
        assert not Wanted("{day-41}").fits(f"Lisbon, since {written}.")
        assert not Wanted(not_matches="{day-40}").fits(written)
    assert filled({"on": ["{day+2}", 1]}) == {"on": [(day + timedelta(days=42)).isoformat(), 1]}


def test_a_script_has_tools_with_any_arguments_and_answers(load):
    said = (
        load("""\
calls:
  - caller: robin
    says:
      - say: hi
        tools: []
        model:
          - tool: book
            arguments: { at: "2026-01-01", seats: 2, window: true, with: [a, { b: null }] }
          - answer: Done.
          - Anything else?
""")
        .calls[0]
        .says[0]
    )
    book, done, more = said.model
    assert (book.tool, book.answer) == ("book", None)
    assert book.arguments == {"at": "2026-01-01", "seats": 2, "window": True, "with": ["a", {"b": None}]}
    assert (done.answer, more.answer, more.line) == ("Done.", "Anything else?", 10)
    assert said.tools == ()


def test_without_a_name_it_has_that_of_the_file(load):
    assert load("calls: [{ caller: robin, says: [hi] }]").name == "colour"


CALL = "calls: [{ caller: robin, says: [hi] }]\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "colour.yaml:1: is empty; fill it or remove it"),
        ("calls: [", "colour.yaml:1: is not YAML: "),
        ("- a\n", "colour.yaml:1: scenario must have fields such as name, not be a list"),
        ("name: x\n", "colour.yaml:1: scenario has no calls"),
        (
            "nmae: x\n" + CALL,
            "colour.yaml:1: scenario has no field nmae; accepted are name, model, seeds, calls, after",
        ),
        ("name: a\nname: b\n" + CALL, "colour.yaml:2: scenario.name is given twice, first on line 1"),
        ("model: dmeo\n" + CALL, 'colour.yaml:1: scenario.model must be demo or configured, not "dmeo"'),
        ("seeds: [a]\n" + CALL, "colour.yaml:1: scenario.seeds must be text, not a list"),
        ("calls: []\n", "colour.yaml:1: scenario.calls must be a list of calls, not an empty list"),
        ("calls:\n- robin\n", "colour.yaml:2: scenario.calls[0] must have fields such as caller, not be "),
        ("calls:\n- says: [hi]\n", "colour.yaml:2: scenario.calls[0] must have either a caller or guest: true"),
        (
            "calls:\n- { says: [hi], guest: yes, caller: robin }\n",
            "colour.yaml:2: scenario.calls[0] must have either a caller or guest: true",
        ),
        ("calls:\n- { says: [hi], caller: [x] }\n", "colour.yaml:2: scenario.calls[0].caller must be text, not a list"),
        (
            "calls:\n- caller: robin\n  says: hi\n",
            'colour.yaml:3: scenario.calls[0].says must be a list of what is said, not "hi"',
        ),
        ("calls:\n- caller: robin\n  says: ['']\n", "colour.yaml:3: scenario.calls[0].says[0] is empty"),
        (
            "calls:\n- caller: robin\n  says:\n  - answer: x\n",
            "colour.yaml:4: scenario.calls[0].says[0] has no say",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    answer: {}\n",
            "colour.yaml:5: scenario.calls[0].says[0].answer must say what it matches or what it does not match",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    answer: { matches: ( }\n",
            "colour.yaml:5: scenario.calls[0].says[0].answer.matches is not a regular expression: ",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    answer: [x]\n",
            "colour.yaml:5: scenario.calls[0].says[0].answer must be a text, or matches and not_matches, not a list",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    tools:\n    - arguments: { a: b }\n",
            "colour.yaml:6: scenario.calls[0].says[0].tools[0] has no name",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    tools:\n    - name: a\n      arguments: [b]\n",
            "colour.yaml:7: scenario.calls[0].says[0].tools[0].arguments must be names, each with what is wanted, not ",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    model:\n    - { tool: a, answer: b }\n",
            "colour.yaml:6: scenario.calls[0].says[0].model[0] must have either a tool or an answer",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    model:\n    - { answer: b, arguments: { a: 1 } }\n",
            "colour.yaml:6: scenario.calls[0].says[0].model[0] has arguments and no tool",
        ),
        (
            "calls:\n- caller: robin\n  says:\n  - say: x\n    model:\n    - tool: a\n      arguments: { a: .nan }\n",
            "colour.yaml:7: scenario.calls[0].says[0].model[0].arguments must be texts, numbers, true or false, and ",
        ),
        (
            "model: demo\ncalls:\n- caller: robin\n  says:\n  - say: x\n    model:\n    - hello\n",
            "colour.yaml:7: the model is demo, so it cannot be scripted",
        ),
        (
            "calls:\n- caller: robin\n  killed: 1\n  says: [hi]\n",
            "colour.yaml:3: scenario.calls[0].killed must be true or false, not the number 1",
        ),
        (
            "calls:\n- caller: robin\n  resumes: true\n  says: [hi]\n",
            "colour.yaml:2: there is no call of robin that was killed before, which this could resume",
        ),
        (
            "calls:\n- caller: robin\n  restored: [hi]\n  says: [hi]\n",
            "colour.yaml:2: restored is for a call with resumes: true, and for after",
        ),
        (
            "calls:\n- caller: robin\n  says: [hi]\n  later: soon\n",
            'colour.yaml:4: scenario.calls[0].later must be a number of days up to 3650, not "soon"',
        ),
        (
            "calls:\n- caller: robin\n  says: [hi]\n  learned: { topics: [a] }\n",
            "colour.yaml:4: scenario.calls[0].learned has no summary",
        ),
        (
            "calls:\n- caller: robin\n  says: [hi]\n  learned: { summary: a, facts: [{ label: b }] }\n",
            "colour.yaml:4: scenario.calls[0].learned.facts[0] must have a quote, the number of what the caller said",
        ),
        (
            "calls:\n- caller: robin\n  says: [hi]\n  learned: { summary: a, facts: [{ quote: 2 }] }\n",
            "colour.yaml:2: what is learned must quote something the caller says, 1 to 1",
        ),
        (
            "calls:\n- guest: true\n  says: [hi]\n  learned: { summary: a }\n",
            "colour.yaml:2: nothing is learned from a call of a guest",
        ),
        (
            "model: demo\ncalls:\n- caller: robin\n  says: [hi]\n  learned: { summary: a }\n",
            "colour.yaml:3: the model is demo, so what it learns cannot be scripted",
        ),
        (
            "calls:\n- { staff: erase, caller: robin }\n- { caller: robin, says: [hi] }\n",
            "colour.yaml:2: robin has not called before, so there is nothing to erase",
        ),
        (
            "calls:\n- { caller: robin, says: [hi] }\n- { staff: set, caller: robin, label: a }\n",
            "colour.yaml:3: scenario.calls[1] must have a content to set",
        ),
        (
            "calls:\n- { caller: robin, says: [hi] }\n- { staff: burn, caller: robin }\n",
            'colour.yaml:3: scenario.calls[1].staff must be erase or forget or set or undo, not "burn"',
        ),
        (CALL + "after:\n- caller: robbin\n", "colour.yaml:3: robbin does not call; callers are robin"),
        (
            CALL + "after:\n- caller: robin\n  restored: [hi]\n",
            "colour.yaml:3: no call of robin is killed, so none can be restored",
        ),
        (
            CALL + "after:\n- caller: robin\n  remembered: [hi]\n",
            "colour.yaml:4: scenario.after[0].remembered must be names, each with what is wanted, not a list",
        ),
        (
            CALL + "after:\n- caller: robin\n  remembered: { '--': hi }\n",
            "colour.yaml:4: scenario.after[0].remembered: '--' has no letters or digits to name a memory with",
        ),
        (
            CALL + "after:\n- caller: robin\n  not_remembered: ['--']\n",
            "colour.yaml:4: scenario.after[0].not_remembered[0]: '--' has no letters or digits to name a memory with",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(problems, text, problem):
    (found,) = problems(text)
    assert found.startswith(problem)


def test_all_mistakes_of_all_files_are_listed(tmp_path):
    (tmp_path / "a.yaml").write_text("model: x\ncalls: 3\n")
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenarios([tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml", ".")])
    assert caught.value.message == f'{tmp_path}/a.yaml:1: scenario.model must be demo or configured, not "x"'
    assert caught.value.why.splitlines() == [
        f"{tmp_path}/a.yaml:2: scenario.calls must be a list of calls, not the number 3",
        f"{tmp_path}/b.yaml:1: is not UTF-8 (byte 0xff); save it as UTF-8",
        f"{tmp_path}/c.yaml: cannot be read: No such file or directory",
        f"{tmp_path}: cannot be read: Is a directory",
    ]
    assert "no scenario was run" in caught.value.hint


def test_a_very_wrong_file_does_not_fill_the_screen(problems):
    listed = problems("calls:\n" + "- x\n" * 100)
    assert (len(listed), listed[-1]) == (22, "and 79 more")


def test_a_list_that_holds_itself_is_only_wrong(problems):
    assert problems("calls: &a [*a]\n") == [
        "colour.yaml:1: scenario.calls[0] must have fields such as caller, not be a list"
    ]
    (found,) = problems("calls: [{ caller: r, says: [{ say: x, model: [{ tool: a, arguments: &b { c: *b } }] }] }]\n")
    assert "model[0].arguments must be texts" in found


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        (Wanted("teal"), "It is Teal.", True),
        (Wanted("teal"), "They steal.", False),
        (Wanted("teal"), "teals", False),
        (Wanted("light  blue"), "a LIGHT\nblue sky", True),
        (Wanted("4111 1111"), "(4111 1111)", True),
        (Wanted("teal"), "色はtealです", True),
        (Wanted("C++"), "I like C++.", True),
        (Wanted(matches="te+al"), "TEEAL", True),
        (Wanted(matches="^teal"), "no teal", False),
        (Wanted(not_matches="blue"), "teal", True),
        (Wanted(not_matches="blue"), "Blue", False),
        (Wanted(matches="teal", not_matches="blue"), "teal and blue", False),
    ],
)
def test_what_fits(wanted, found, fits):
    assert wanted.fits(found) is fits


@pytest.mark.parametrize(("found", "is_whole"), [("teal", True), ("Teal ", True), ("teal blue", False), ("", False)])
def test_an_argument_has_to_be_the_whole_of_it(found, is_whole):
    assert Wanted("teal").is_whole(found) is is_whole
    assert Wanted(matches="^teal$").is_whole(found) is (found.strip().casefold() == "teal")
