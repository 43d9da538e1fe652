"""The benchmark of calls in rooms: its figures, its table, and that a failure is told."""

from __future__ import annotations

import pytest

from benchmarks import rooms, rooms_report

ROW = {
    "kind": "text",
    "way": "lkmongo",
    "calls": 20,
    "seconds": 60.0,
    "unserved": 0,
    "turns": 100,
    "missing": 0,
    "greeting_p50": 0.5,
    "greeting_p95": 0.9,
    "wait_p50": 0.1,
    "wait_p95": 0.4,
    "idle_mb": 500.0,
    "idle_processes": 14,
    "mb": 2000.0,
    "processes": 34,
    "joining_s": 0.6,
    "cores": {"server": 0.1, "MongoDB": 0.05, "worker": 0.4, "clients": 0.1},
}
FACTS = dict.fromkeys(("measured_on", "cores", "system", "python", "livekit_agents", "livekit_server"), "x")


def test_what_callers_met_is_summed_up():
    told = rooms.summary({"greetings": [1.0, 3.0], "waits": [0.1] * 9, "missing": 1, "unserved": 2})
    assert (told["greeting_p50"], told["wait_p95"]) == (pytest.approx(2.0), pytest.approx(0.1))
    assert (told["unserved"], told["turns"], told["missing"]) == (2, 10, 1)
    nobody = rooms.summary({"greetings": [], "waits": [], "missing": 0, "unserved": 4})
    assert nobody["wait_p50"] is nobody["greeting_p95"] is None


@pytest.mark.parametrize("worse", [{"unserved": 1}, {"missing": 1}, {"wait_p95": 1.6}, {"wait_p95": None}])
def test_calls_are_carried_if_everybody_is_served_soon(worse):
    assert rooms_report.is_carried(ROW)
    assert not rooms_report.is_carried(ROW | worse)
    assert "too many" in rooms_report.table([ROW | worse])


def test_a_row_replaces_the_same_one_only():
    told = {"rows": [ROW, ROW | {"way": "bare"}, ROW | {"calls": 40}]}
    rows = rooms.merged(told, [ROW | {"mb": 1.0}], FACTS)["rows"]
    assert [(each["calls"], each["way"], each["mb"]) for each in rows] == [
        (20, "bare", 2000.0),
        (20, "lkmongo", 1.0),
        (40, "lkmongo", 2000.0),
    ]


def test_a_replica_is_that_of_the_most_calls_that_are_carried():
    told = {"machine": FACTS, "rows": [ROW, ROW | {"calls": 40, "missing": 1}]}
    shown = rooms_report.blocks(told)["rooms"]
    assert "A replica for 20 calls in text" in shown
    assert "A replica for 40" not in shown
    assert 'cpu: "1"' in shown  # (0.4 + 0.6 / 2) / 0.7
    assert "memory: 2560Mi" in shown  # 2,000 and a quarter, in whole quarters of a GiB
    assert rooms_report.blocks({}) == rooms_report.sentence({}) == {"rooms": "Not measured yet."}
    said = " ".join(rooms_report.sentence(told)["rooms"].split())
    assert said.endswith(
        "20 in text (95 % of answers within 0.40 s; a replica for as many asks for 1 cores and 2,560 MiB)."
    )


def test_without_a_livekit_server_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("sys.argv", ["rooms"])
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit, match="livekit-server is not on PATH"):
        rooms.main()
