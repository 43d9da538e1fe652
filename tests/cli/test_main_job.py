"""The main job: talk, leave, come back, and be known. As a stranger does it, in processes of their own."""

from __future__ import annotations

import pytest


def talk(run, user: str, *lines: str):
    result = run("agent", "console", "--json", "--user", user, input="\n".join(lines) + "\n")
    assert result.code == 0, result.stderr
    return result


@pytest.fixture
def after_a_first_call(run):
    result = talk(
        run,
        "u-100",
        "my name is Robin",
        "remember that my favorite color is teal",
        "where is order 1001",
        "what is your return policy",
    )
    assert "loading the sample shop" in result.stderr
    assert "demo responder" in result.stderr
    return result


def test_each_request_is_answered_in_a_sentence(after_a_first_call):
    greeting, name, color, order, policy = after_a_first_call.answers
    assert greeting
    assert "Robin" in name
    assert "teal" in color
    assert "1001" in order
    assert "return" in policy.lower()
    tools = [event["name"] for event in after_a_first_call.events if event["type"] == "tool_call"]
    assert tools == ["update_profile", "remember_detail", "lookup_order", "search_knowledge"]
    outputs = [event for event in after_a_first_call.events if event["type"] == "tool_output"]
    assert [output["name"] for output in outputs] == tools
    assert not any(output["is_error"] for output in outputs)


def test_whoever_comes_first_has_an_order_in_the_sample_shop(run):
    first = talk(run, "robin", "help", "where is my order", "where is order 1011")
    assert "with an order of yours, 1011 ..." in first.stderr
    _, able, *orders = first.answers
    assert '"where is my order"' in able
    assert orders == ["Order 1011 is shipped: Wren smart speaker, chalk, 89.00 USD in total."] * 2
    second = talk(run, "kim", "where is my order", "where is order 1011")
    assert "order of yours" not in second.stderr
    assert second.answers[1:] == ["You have no orders.", "You have no order 1011."]


@pytest.mark.parametrize("who", [["--guest"], ["--user", "u-100"], ["--tenant", "lantern-hotel"]])
def test_of_a_guest_of_sample_people_and_in_other_tenants_there_are_the_samples_orders_alone(run, who):
    said = run("agent", "console", *who, input="hello\n")
    assert "loading the sample shop (users, orders and knowledge) ..." in said.stderr
    assert run("users", "show", "u-100", "--json").json["orders"] == 2
    assert "no order 1011" in run("agent", "console", "--user", "u-100", input="where is order 1011\n").stdout


def test_a_database_that_is_loaded_by_hand_has_the_samples_orders_alone(run):
    assert run("db", "seed", "--json").json[1]["inserted"] == 13
    said = run("agent", "console", "--user", "robin", input="where is my order\n")
    assert "You have no orders." in said.stdout
    assert "loading" not in said.stderr


def test_who_comes_back_is_known_and_nobody_else_is(run, after_a_first_call):
    result = talk(run, "u-100", "what is my favourite colour?", "what do you know about me?")
    greeting, color, everything = result.answers
    assert "Robin" in greeting
    assert "teal" in color
    assert "teal" in everything
    assert "Robin" in everything

    stranger = talk(run, "u-200", "what is my favourite colour?", "what do you know about me?", "where is order 1001?")
    said = " ".join(stranger.answers)
    assert "Robin" not in said
    assert "teal" not in said
    assert "no order 1001" in stranger.answers[-1]
    other_tenant = run(
        "agent", "console", "--json", "--user", "u-100", "--tenant", "other", input="what do you know about me?\n"
    )
    assert "teal" not in other_tenant.stdout


def test_what_is_forgotten_is_not_known_in_the_next_call(run, after_a_first_call):
    (slot,) = run("memory", "list", "u-100", "--json").json
    assert (slot["memory_type"], slot["content"]) == ("favorite_color", "teal")

    dry = run("memory", "forget", "u-100", "--dry-run", "--json").json
    assert (dry["memory_types"], dry["forgotten"]) == (["favorite_color"], 0)
    unasked = run("memory", "forget", "u-100")
    assert unasked.code == 2
    assert "--yes" in unasked.stderr
    assert len(run("memory", "list", "u-100", "--json").json) == 1

    done = run("memory", "forget", "u-100", "--yes")
    assert done.code == 0
    assert "profile" in done.stdout
    assert "transcripts" in done.stdout
    assert run("memory", "list", "u-100", "--json").json == []
    result = talk(run, "u-100", "what is my favourite colour?")
    assert "teal" not in result.stdout
    assert "Robin" in result.answers[0]


async def test_the_call_is_recorded(after_a_first_call, shared_home, database_name):
    from lkmongo.local.mongod import EmbeddedMongod
    from lkmongo.model import UserScope
    from lkmongo.store.mongo.client import create_client
    from lkmongo.store.open import Store

    scope = UserScope(tenant_id="default", user_id="u-100")
    with EmbeddedMongod(shared_home) as mongod:
        async with create_client(mongod.uri) as client:
            store = Store.of(client[database_name])
            (record,) = await store.sessions.recent(scope)
            turns = await store.sessions.turns(scope, record.session_id)
    assert record.session_id.startswith("console-")
    assert (record.status, record.close_reason) == ("complete", "hang-up")
    assert record.started_at < record.ended_at
    assert [turn.content for turn in turns if turn.role == "user"] == [
        "my name is Robin",
        "remember that my favorite color is teal",
        "where is order 1001",
        "what is your return policy",
    ]
    assert next(turn.name for turn in turns if turn.kind == "tool") == "update_profile"


def test_a_guest_leaves_nothing_that_is_remembered(run):
    result = run(
        "agent",
        "console",
        "--guest",
        "--json",
        input="my name is Robin\nremember that my favorite color is teal\nwhat is my favorite color?\n",
    )
    assert "teal" in result.answers[-1]
    again = run("agent", "console", "--guest", "--json", input="what do you know about me?\n")
    assert "teal" not in again.stdout
    assert "Robin" not in again.stdout


def test_a_script_is_said_and_the_rest_is_plain_text(run, tmp_path):
    (tmp_path / "said.txt").write_text("remember that my dog is called Rex\n\nwhat is my dog called?\n")
    result = run("agent", "console", "--user", "u-300", "--script", "said.txt")
    assert result.code == 0
    assert "you> what is my dog called?" in result.stdout
    assert "Rex" in result.stdout.splitlines()[-1]
    assert "[remember_detail(" in result.stdout
