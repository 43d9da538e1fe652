"""`lkmongo agent test`: hold the conversations of scenarios, and show what did not hold."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lkmongo.cli.agent import app
from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import Format, Output, counted, cut, visible
from lkmongo.cli.progress import watched
from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkmongo.scenarios.expect import Failure
    from lkmongo.scenarios.run import Outcome

_COLUMNS = ("result", "scenario", "file", "line", "where", "said", "expected", "came")


@command(app, "test", data=True)
async def hold_conversations(
    cli: Cli,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenarios in YAML.", show_default=False)],
    model: Annotated[
        Literal["demo", "configured"] | None,
        typer.Option(
            help="Who answers, whatever the scenarios say: the demo responder or the configured language model.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the result to this file as JUnit XML, too.", show_default=False)
    ] = None,
) -> None:
    """Hold the conversations of scenarios with your agent, and check what it does.

    Each scenario runs on an empty database, in a MongoDB that is started for it and gone afterwards; MONGODB_URI is not
    used. The answers come from the scenario's own script, else from the configured language model, else from the demo
    responder. Exit code 1 if anything did not hold, 2 if a file is wrong.
    """
    from lkmongo.files import whole_file
    from lkmongo.scenarios.reading import load_scenarios
    from lkmongo.scenarios.run import run_scenarios

    scenarios = load_scenarios(files)
    if cli.settings.mongodb_uri:
        cli.output.note("MONGODB_URI is not used: scenarios run in a MongoDB that is started for them.")
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        write = stack.enter_context(whole_file(junit)) if junit else None
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-", ignore_cleanup_errors=True))
        with watched("Testing") as progress:
            async for outcome in run_scenarios(cli.settings, scenarios, Path(home), model=model, on_progress=progress):
                outcomes.append(outcome)
                if cli.output.format is Format.TABLE:
                    _show(cli.output, outcome)
        if write:
            write(junit_xml(outcomes))
    if cli.output.is_json:
        cli.output.rows(("scenario", "file", "passed", "seconds", "calls", "failures"), map(_object, outcomes))
    elif cli.output.format is Format.PLAIN:
        cli.output.rows(_COLUMNS, [row for outcome in outcomes for row in _rows(outcome)])
    failed = sum(bool(outcome.failures) for outcome in outcomes)
    if failed:
        raise LkmongoError(f"{failed} of {counted(len(outcomes), 'scenario')} failed")
    cli.output.note(f"{counted(len(outcomes), 'scenario')} passed")


def _show(output: Output, outcome: Outcome) -> None:
    """Show what came of a scenario to a person."""
    result = "FAILED" if outcome.failures else "passed"
    output.say(f"{result}  {outcome.scenario.name} ({outcome.seconds:.1f} s)")
    for failure in outcome.failures:
        said = f': "{failure.said}"' if failure.said else ""
        output.say(f"  {_place(outcome, failure)}  {failure.where}{said}")
        output.say(f"    expected  {failure.expected}")
        output.say(f"    came      {cut(output, ' '.join(failure.came.split()), 500)}")


def _place(outcome: Outcome, failure: Failure) -> str:
    return f"{outcome.scenario.path}:{failure.line}"


def _object(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    return {
        "scenario": scenario.name,
        "file": str(scenario.path),
        "passed": not outcome.failures,
        "seconds": round(outcome.seconds, 3),
        "calls": len(scenario.calls),
        "failures": [asdict(failure) for failure in outcome.failures],
    }


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """A row for each failure, or one that says that there was none."""
    about = {"scenario": outcome.scenario.name, "file": outcome.scenario.path}
    if not outcome.failures:
        yield about | {"result": "passed"}
    for failure in outcome.failures:
        yield about | asdict(failure) | {"result": "failed", "where": failure.where}


def junit_xml(outcomes: list[Outcome]) -> bytes:
    """The outcomes as JUnit XML: a test case for each scenario."""
    from xml.etree import ElementTree as ET

    failed = sum(bool(outcome.failures) for outcome in outcomes)
    totals = {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0"}
    suites = ET.Element("testsuites", totals)
    time = _seconds(sum(outcome.seconds for outcome in outcomes))
    suite = ET.SubElement(suites, "testsuite", {"name": "lkmongo agent test", **totals, "time": time})
    for outcome in outcomes:
        scenario = outcome.scenario
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "name": _xml(scenario.name),
                "classname": _xml(str(scenario.path)),
                "file": _xml(str(scenario.path)),
                "time": _seconds(outcome.seconds),
            },
        )
        for failure in outcome.failures:
            said = f' "{failure.said}"' if failure.said else ""
            element = ET.SubElement(case, "failure", {"message": _xml(f"{failure.where}: {failure.expected}")})
            element.text = _xml(
                f"{_place(outcome, failure)}\n{failure.where}{said}\n"
                f"expected  {failure.expected}\ncame      {failure.came}"
            )
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _xml(text: str) -> str:
    """Text without the characters that XML does not have."""
    return re.sub("[\ufffe\uffff]", "\ufffd", visible(text))
