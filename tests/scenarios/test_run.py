"""Scenarios: those that ship pass, and for each kind of expectation there is one that fails, and says where and why."""

from __future__ import annotations

import json
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from docs import generate
from lkmongo.errors import SeedError, SettingsError
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import UserScope
from lkmongo.scenarios.calls import Heard
from lkmongo.store.mongo.client import create_client
from lkmongo.store.people.memories import Memories
from tests.openai_server import create_app

SHIPPED = sorted(generate.ROOT.glob("docs/examples/scenarios/*.yaml"))


def test_six_scenarios_ship():
    assert len(SHIPPED) == 6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
async def test_a_scenario_that_ships_passes(run, path):
    assert (await run(path)).failures == ()


def failing(outcome):
    """What did not hold, each as (line, where, expected, came)."""
    return [(failure.line, failure.where, failure.expected, failure.came) for failure in outcome.failures]


TWO_CALLS = """\
calls:
  - caller: robin
    says:
      - say: "My favourite colour is teal."
        model:
          - tool: remember_detail
            arguments: { memory_type: favourite colour, content: teal }
          - I will remember that.
FIRST
  - caller: alex
    says:
      - say: "What is my favourite colour?"
        model: [{ tool: recall_detail, arguments: { memory_type: favourite colour } }]
SECOND
AFTER
"""
NOTHING = "I have nothing stored about your favourite colour."


def two_calls(*, first: str = "", second: str = "", after: str = "") -> str:
    return TWO_CALLS.replace("FIRST", first).replace("SECOND", second).replace("AFTER", after)


async def test_what_holds_fails_nowhere(run):
    outcome = await run(
        two_calls(
            first="        answer: remember\n        tools: [remember_detail]",
            second="        answer: nothing stored\n    never: [teal]",
            after="after:\n  - { caller: robin, remembered: { favourite colour: teal } }\n"
            "  - { caller: alex, not_remembered: [favourite colour, teal] }",
        )
    )
    assert outcome.failures == ()
    assert outcome.seconds > 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("teal", 'an answer that holds "teal"'),
        ('{ matches: "^teal" }', 'an answer that matches "^teal"'),
        (
            '{ matches: "nothing", not_matches: "colour" }',
            'an answer that matches "nothing" and does not match "colour"',
        ),
    ],
)
async def test_an_answer_that_is_another(run, answer, expected):
    outcome = await run(two_calls(second=f"        answer: {answer}"))
    assert failing(outcome) == [(12, "call 2 (alex), turn 1", expected, f'"{NOTHING}"')]
    assert outcome.failures[0].said == "What is my favourite colour?"


async def test_a_greeting_that_is_another(run):
    outcome = await run(two_calls(second="    greeting: Alex"))
    assert failing(outcome) == [(10, "call 2 (alex), greeting", 'a greeting that holds "Alex"', '"Hello."')]


RECALLED = 'recall_detail(memory_type="favourite colour")'


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ("[search_memories]", "the tool search_memories() is called"),
        ("[recall_detail, recall_detail]", "the tool recall_detail() is called"),
        ("[]", "no tool is called"),
        (
            "[{ name: recall_detail, arguments: { memory_type: favourite } }]",
            'the tool recall_detail(memory_type="favourite") is called',
        ),
        (
            "[{ name: recall_detail, arguments: { label: { matches: colour } } }]",
            'the tool recall_detail(label that matches "colour") is called',
        ),
    ],
)
async def test_a_tool_that_is_not_called(run, tools, expected):
    outcome = await run(two_calls(second=f"        tools: {tools}"))
    assert failing(outcome) == [(12, "call 2 (alex), turn 1", expected, RECALLED)]


async def test_a_tool_where_none_is_called(run):
    outcome = await run("calls: [{ caller: robin, says: [{ say: hi, model: [Hello], tools: [lookup_order] }] }]")
    assert failing(outcome) == [
        (1, "call 1 (robin), turn 1", "the tool lookup_order() is called", "no tool was called")
    ]


SCRIPT = (
    "[{ tool: list_user_memories }, { tool: recall_detail, arguments: { memory_type: a } }, { tool: lookup_order }]"
)


@pytest.mark.parametrize(
    ("tools", "is_called"),
    [
        ("[list_user_memories, lookup_order]", True),
        ("[{ name: recall_detail, arguments: { memory_type: A } }]", True),
        ("[lookup_order, list_user_memories]", False),
    ],
)
async def test_tools_are_called_in_this_order_perhaps_with_others_between(run, tools, is_called):
    outcome = await run(f"calls: [{{ caller: r, says: [{{ say: hi, model: {SCRIPT}, tools: {tools} }}] }}]")
    called = 'list_user_memories(); recall_detail(memory_type="a"); lookup_order()'
    assert [failure.came for failure in outcome.failures] == ([] if is_called else [called])


async def test_a_scripted_tool_that_the_agent_does_not_have_is_named(run):
    outcome = await run("calls: [{ caller: r, says: [{ say: hi, model: [{ tool: rember }] }] }]")
    (found,) = failing(outcome)
    assert found[:3] == (1, "call 1 (r), turn 1", "an answer without trouble")
    assert found[3].startswith("the agent has no tool rember; it has forget_detail, ")


@pytest.mark.parametrize(
    ("remembered", "expected", "came"),
    [
        ("{ city: Oslo }", 'city is remembered and holds "Oslo"', "favourite_colour: teal"),
        ("{ favourite_colour: blue }", 'favourite_colour is remembered and holds "blue"', '"teal"'),
        ("{ name: { matches: R } }", 'name is remembered and matches "R"', "favourite_colour: teal"),
    ],
)
async def test_what_is_not_remembered(run, remembered, expected, came):
    outcome = await run(two_calls(after=f"after:\n  - {{ caller: robin, remembered: {remembered} }}"))
    assert failing(outcome) == [(16, "after all calls (robin)", expected, came)]


@pytest.mark.parametrize(
    ("text", "expected", "came"),
    [
        ("Favourite Colour", "favourite_colour is not remembered", '"teal"'),
        ("teal", '"teal" is not remembered', 'in favourite_colour: "teal"'),
        (
            "My favourite",
            '"My favourite" is not remembered',
            'in the gist of the last call: "My favourite colour is teal."',
        ),
    ],
)
async def test_what_is_remembered_and_should_not_be(run, text, expected, came):
    outcome = await run(two_calls(after=f"after:\n  - {{ caller: robin, not_remembered: [{text}] }}"))
    assert (16, "after all calls (robin)", expected, came) in failing(outcome)


async def test_what_reaches_somebody_else_in_an_answer_a_tool_or_the_briefing_is_found(run):
    """There is no leak to be found in lkmongo: the same person is taken for somebody else."""
    outcome = await run("""\
        calls:
          - caller: robin
            says:
              - say: My city is Oslo.
                model: [{ tool: remember_detail, arguments: { memory_type: city, content: Oslo } }]
          - caller: robin
            says:
              - say: What is my city?
                model: [{ tool: recall_detail, arguments: { memory_type: city } }, "It is Oslo."]
            never: [Oslo, Bergen]
        """)
    assert {failure.expected for failure in outcome.failures} == {'the caller is not told "Oslo"'}
    found = [(failure.line, failure.where, failure.came.partition(":")[0]) for failure in outcome.failures]
    assert found == [
        (6, "call 2 (robin), greeting", "what the model was told"),
        (8, "call 2 (robin), turn 1", "the answer"),
        (8, "call 2 (robin), turn 1", "what recall_detail returned"),
        (8, "call 2 (robin), turn 1", "what the model was told"),
    ]
    assert "Oslo" in outcome.failures[0].came


async def test_a_leak_between_two_people_is_found_by_the_scenario_that_ships(run, monkeypatch):
    """Everybody is loaded with the memories of u-100."""
    contents, leaked = Memories.contents, UserScope(tenant_id="default", user_id="u-100")
    monkeypatch.setattr(Memories, "contents", lambda self, _scope: contents(self, leaked))
    outcome = await run(generate.ROOT / "docs/examples/scenarios/keeps-callers-apart.yaml")
    told = [failure for failure in outcome.failures if failure.expected == 'the caller is not told "Ferdinand"']
    assert {failure.caller for failure in told} >= {"u-200"}
    assert any(failure.came.startswith("what recall_detail returned") for failure in told)


KILLED = """\
calls:
  - caller: robin
    says:
      - say: My order is late.
        model: [I will look into it.]
    killed: true
  - caller: robin
    says: ["Are you there?"]
{resumed}
after:
  - caller: robin
    restored: {restored}
"""


async def test_what_was_said_to_a_killed_process_is_restored_and_nothing_else(run):
    resumed = "    resumes: true\n    restored: [my order is late, my order was lost, look into it]"
    outcome = await run(KILLED.format(resumed=resumed, restored="[my order is late, it was lost, are you there]"))
    (to_the_agent, in_the_record) = failing(outcome)
    assert to_the_agent[:3] == (7, "call 2 (robin)", 'the agent that takes over knows of "my order was lost"')
    assert "My order is late.; I will look into it." in to_the_agent[3]
    assert in_the_record[:3] == (12, "after all calls (robin)", 'the record of the killed call holds "it was lost"')
    assert "My order is late." in in_the_record[3]


async def test_a_killed_process_has_ended_no_call_and_another_call_is_not_the_killed_one(run, monkeypatch):
    """It dies by SIGKILL: nobody has written an end, and recovery finds the session.

    Without `resumes` the caller begins anew: what they say is not in the record of the killed call.
    """
    from lkmongo.scenarios import run as running

    found = []
    recover = running.recover

    async def watch(*arguments):
        found.extend(await recover(*arguments))

    monkeypatch.setattr(running, "recover", watch)
    outcome = await run(KILLED.format(resumed="", restored="[my order is late, are you there]"))
    assert [(each.scope.user_id, each.outcome) for each in found] == [("robin", "interrupted")]
    assert [failure.expected for failure in outcome.failures] == ['the record of the killed call holds "are you there"']


async def test_a_kill_that_nobody_recovers_from_is_noticed(run, monkeypatch):
    """As though the process had been killed before anything of it was stored: so no process is needed."""
    from lkmongo.scenarios import run as running

    async def hold_and_lose(*_arguments):
        return [Heard(), Heard("My order is late.", answers=["I will look into it."])]

    monkeypatch.setattr(running, "hold_and_kill", hold_and_lose)
    outcome = await run(KILLED.format(resumed="    resumes: true\n    restored: [my order is late]", restored="[late]"))
    assert [(failure.line, failure.where) for failure in outcome.failures] == [
        (7, "call 2 (robin)"),
        (12, "after all calls (robin)"),
    ]


async def test_a_database_is_dropped_afterwards_and_each_scenario_has_its_own(run, scenario_home):
    await run(two_calls())
    outcome = await run("calls: [{ caller: robin, says: [hi] }]\nafter: [{ caller: robin, not_remembered: [teal] }]")
    assert outcome.failures == ()
    with EmbeddedMongod(scenario_home) as mongod:
        async with create_client(mongod.uri) as client:
            assert [name for name in await client.list_database_names() if name.startswith("scenario")] == []


async def test_it_has_seed_data_of_its_own(run, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "orders.yaml").write_text(
        "- { order_id: 7, user_id: robin, status: lost, total: 1, items: [{ name: Lamp }] }\n"
    )
    outcome = await run("""\
        seeds: shop
        model: demo
        calls: [{ caller: robin, says: [{ say: where is my order 7, answer: Lamp }] }]
        """)
    assert outcome.failures == ()
    (folder / "orders.yaml").write_text("- { order_id: 7 }\n")
    with pytest.raises(SeedError) as caught:
        await run("seeds: shop\ncalls: [{ caller: robin, says: [hi] }]")
    assert "shop/orders.yaml:1: orders[0] has no items" in caught.value.message


OWN = """
from livekit.agents import function_tool
from lkmongo.agent.assistant import Assistant

class Pirate(Assistant):
    @function_tool
    async def parrot(self, words: str, times: int = 1, loud: bool = False) -> str:
        print("it may print")
        return f"Arrr, {words}"
"""


@pytest.mark.parametrize("killed", ["true", "false"])
async def test_the_agent_of_the_settings_is_tested(run, tmp_path, monkeypatch, killed):
    (tmp_path / "pirate.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    scenario = f"""\
        calls:
          - caller: robin
            killed: {killed}
            says:
              - say: hi
                model: [{{ tool: parrot, arguments: {{ words: ahoy, times: 2, loud: true }} }}]
                answer: Arrr, ahoy
                tools: [{{ name: parrot, arguments: {{ words: ahoy, times: 2, loud: true }} }}]
        """
    assert (await run(scenario, env={"LKMONGO_AGENT": "pirate:Pirate"})).failures == ()
    if killed == "true":
        return  # one process that is killed is enough
    without = await run(scenario)
    assert {each[2][:9] for each in failing(without)} == {"an answer", "the tool "}
    sys.modules.pop("pirate", None)
    with pytest.raises(SettingsError):
        await run(scenario, env={"LKMONGO_AGENT": "pirate:Nobody"})


@asynccontextmanager
async def language_model(status: int = 200):
    """A server that answers with this status; yields the settings for it."""
    server = web.AppRunner(create_app(status))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    yield {"LKMONGO_LLM_BASE_URL": f"http://127.0.0.1:{server.addresses[0][1]}/v1", "LKMONGO_LLM": "m"}
    await server.cleanup()


SAYS = "calls: [{{ caller: robin, says: [{{ say: good day, answer: {} }}] }}]\n"


async def test_the_configured_language_model_answers_unless_the_scenario_says_otherwise(run):
    scripted = "calls: [{ caller: robin, says: [{ say: good day, model: [Bonjour.], answer: Bonjour }] }]"
    async with language_model() as env:
        assert (await run(SAYS.format('"You said: good day"'), env=env)).failures == ()
        assert (await run("model: configured\n" + SAYS.format("You said"), env=env)).failures == ()
        assert (await run(SAYS.format("You said"), env=env, model="demo")).failures != ()
        assert (await run("model: demo\n" + SAYS.format("{ not_matches: You said }"), env=env)).failures == ()
        assert (await run(scripted, env=env)).failures == ()
        (failure,) = (await run(scripted, env=env, model="configured")).failures
        assert failure.came == '"You said: good day"'


async def test_a_language_model_that_is_wanted_and_not_configured_is_an_error(run):
    with pytest.raises(SettingsError) as caught:
        await run("model: configured\n" + SAYS.format("x"))
    assert "there is no language model" in caught.value.message


async def test_a_language_model_that_does_not_answer_fails_the_turn(run):
    async with language_model(400) as env:
        outcome = await run(SAYS.format("x"), env=env)
    troubles = [each for each in failing(outcome) if each[2] == "an answer without trouble"]
    assert [each[:2] for each in troubles] == [(1, "call 1 (robin), greeting"), (1, "call 1 (robin), turn 1")]
    assert all("the language model did not answer" in each[3] for each in troubles)


async def test_what_is_not_said_because_the_session_has_ended_fails_too(run):
    says = ", ".join(f"line {number}" for number in range(1, 8))
    async with language_model(400) as env:
        outcome = await run(f"calls: [{{ caller: robin, says: [{says}] }}]", env=env)
    assert [failure.turn for failure in outcome.failures if "language model" in failure.came][:1] == [0]
    assert any(failure.came.startswith("the session ended: ") for failure in outcome.failures)
    last = outcome.failures[-1]
    assert (last.turn, last.said, last.came) == (7, "line 7", "the session had ended")


def test_the_scenarios_of_the_documents_are_those_that_ship_or_can_be_read(tmp_path):
    """Each block of YAML that is a whole scenario is a file of the examples."""
    shipped = [path.read_text(encoding="utf-8") for path in SHIPPED]
    page = (generate.ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert any(block in shipped for block in blocks)
    for block in blocks:
        assert json.dumps(yaml.safe_load(block))
        assert "calls:" not in block or block in shipped, block


def test_the_files_that_ship_are_told_of():
    page = Path(generate.ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    assert [path.name for path in SHIPPED if path.name not in page] == []
