"""How quick turns feel, aloud and on this machine alone: `make bench-voice`.

    python -m benchmarks.voice [--quick] [--no-write] [--only PART ...]

Callers of the local voice (`voice_cases`) are heard by the local engines. Four parts, which are independent:

- `hearing`: each sentence by each voice, with noise and without, goes through voice activity, turn detector and
  recogniser, faster than it was said: word error rate, what survives, and which pauses are taken for the end of a turn
  (`voice_listen`, `voice_turns`).
- `turns`: a real call with memory and the demo responder (`voice_call`), sentence by sentence in real time, with the
  endpointing of `LKMONGO_ENDPOINTING` or its default: from the end of speech to the first sound of the answer. What
  other settings would do is worked out from this call, and `hearing` says how often they cut in.
- `alone`: some of these sentences again, without the turn detector. It says whether what is worked out is what happens.
- `memory`: two calls with a scripted model, one with memory and one without, by turns: what memory adds.

It takes about eight minutes on two cores, alone on the machine, prints its tables and which setting meets the targets,
and writes benchmarks/voice_results.json, of which docs/performance.md shows them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import voice_cases, voice_report
from benchmarks.measure import machine, percentile, tell
from benchmarks.voice_cases import Said, Sentence
from benchmarks.voice_listen import listen, survives, wrong_words
from benchmarks.voice_turns import HESITATING, Heard, Setting, Turn, expected, measured

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("hearing", "turns", "alone", "memory")
GRID = [Setting(low, high) for low in (0.3, 0.5, 0.7) for high in (1.0, 1.5, 2.0, 2.5)]
"""Settings that are worked out, besides those below."""
OTHERS = [
    Setting(0.5, 0.5, detector=False, words=False),
    Setting(0.8, 0.8, detector=False, words=False),
    Setting(0.3, 2.5, words=False),
    Setting(0.5, 1.5, words=False),
    Setting(0.5, 1.5, detector=False),
]
_TURNS, _AGAIN, _PAIRS, _THOUGHTS = 40, 10, 8, 30


class Running:
    """A call's process, spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, *what: Any) -> dict[str, Any]:
        """Have something done; returns what came of it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the call has ended; what it said is above")
        return dict(json.loads(line))


@asynccontextmanager
async def running(folder: Path, uri: str, memory: str, mind: str) -> AsyncIterator[Running]:
    """A call in a process of its own, which has begun and greeted."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "LKMONGO_"))}
    environment |= {
        "LKMONGO_SPEECH": "local",
        "LKMONGO_EMBEDDINGS": "local",
        "LKMONGO_HOME": str(folder / f"home-{memory}"),
        "MONGODB_URI": uri,
        "MONGODB_DB": "lkmongo",
    }
    if endpointing := os.environ.get("LKMONGO_ENDPOINTING"):
        environment["LKMONGO_ENDPOINTING"] = endpointing
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.voice_call", memory, mind, cwd=ROOT, stdin=pipe, stdout=pipe, env=environment
    )
    try:
        call = Running(process)
        await call.read()
        yield call
    finally:
        if process.stdin:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def hear(sentences: Sequence[Sentence]) -> tuple[list[Heard], list[dict[str, Any]]]:
    """All that is said, as it is heard, and what is left of the words by voice and noise.

    Only the voice as it comes says all of it with noise and without; the others say every sixth sentence.
    """
    from lkmongo.speech.recogniser import LocalSTT, engine, text_of

    LocalSTT.load()
    loop = asyncio.new_event_loop()
    heard: list[Heard] = []
    rows = []
    for number, voice in enumerate(voice_cases.voices()):
        for noisy in (False, True):
            some = sentences if number == 0 else sentences[number % 6 :: 6]
            here = []
            wrong, meant, kept = 0, 0, 0
            for sentence in some:
                said = voice_cases.say(sentence, voice, noisy=noisy)
                one = listen(said, lambda samples: loop.run_until_complete(text_of(samples, urgent=True)))
                if one.pauses:
                    here.append(one)
                mistakes, words = wrong_words(said, one.transcript)
                wrong, meant = wrong + mistakes, meant + words
                kept += survives(said, one.transcript)
            heard += here
            rows.append(
                {"voice": voice, "noisy": noisy, "sentences": len(some), "words": meant, "wrong": wrong, "kept": kept}
            )
            caller = f"{voice}{', noise' if noisy else ''}"
            tell(f"  {caller}: {wrong / meant:.1%} of the words wrong, {kept}/{len(some)} kept")
    loop.close()
    engine.unload()
    return heard, rows


async def hold(call: Running, folder: Path, said: Sequence[Said]) -> list[Turn]:
    """Say sentences, one after the other."""
    turns = []
    for number, each in enumerate(said):
        path = folder / f"said-{number}.wav"
        voice_cases.write(path, each.sound)
        did = await call.do("say", str(path), each.end)
        turns.append(Turn(each.sentence.kind, each.sentence.text, **did))
        late = "no answer" if turns[-1].audible is None else f"{turns[-1].audible:.2f} s"
        tell(f"  {'cut in, ' if turns[-1].cut else ''}{late}: {each.sentence.text}")
    return turns


async def compare(folder: Path, uri: str, said: Sequence[Said], thinking: int) -> dict[str, Any]:
    """The same sentences in a call with memory and in one without, by turns; the first of each does not count.

    They are said, for the sound and the processor, and then typed `thinking` times, for what a turn takes to think.
    """
    ways: dict[str, list[Turn]] = {"memory": [], "bare": []}
    async with running(folder, uri, "memory", "scripted") as memory, running(folder, uri, "bare", "scripted") as bare:
        calls = {"memory": memory, "bare": bare}
        for number, each in enumerate([said[0], *said]):
            order = list(calls) if number % 2 else list(calls)[::-1]
            for way in order:
                turns = await hold(calls[way], folder, [each])
                ways[way] += turns if number else []
        thought: dict[str, list[float]] = {"memory": [], "bare": []}
        for number in range(thinking + 1):
            for way in list(calls) if number % 2 else list(calls)[::-1]:
                ms = (await calls[way].do("think", said[number % len(said)].sentence.text))["ms"]
                thought[way] += [ms] if number and ms is not None else []
        pss = {way: (await call.do("memory"))["pss"] for way, call in calls.items()}
    said_aloud = {way: [asdict(turn) for turn in each] for way, each in ways.items()}
    return {"turns": said_aloud, "thought_ms": thought, "pss_mb": pss}


def added(compared: dict[str, Any]) -> dict[str, float]:
    """What memory adds: milliseconds of a turn at the median and the 95th percentile, megabytes, processor time."""
    turns = {way: [Turn(**each) for each in turns] for way, turns in compared["turns"].items()}
    thought = compared["thought_ms"]
    audible = {way: [turn.audible for turn in each if turn.audible is not None] for way, each in turns.items()}
    work = {way: [1000 * turn.cpu for turn in each] for way, each in turns.items()}
    return {
        "median_ms": _more(thought, 50),
        "p95_ms": _more(thought, 95),
        "audible_ms": 1000 * _more(audible, 50),
        "mb": compared["pss_mb"]["memory"] - compared["pss_mb"]["bare"],
        "cpu_ms": statistics.median(work["memory"]) - statistics.median(work["bare"]),
        "bare_cpu_ms": statistics.median(work["bare"]),
        "bare_mb": compared["pss_mb"]["bare"],
        "turns": len(thought["memory"]),
    }


def _more(of: dict[str, list[float]], share: float) -> float:
    return percentile(of["memory"], share) - percentile(of["bare"], share)


async def run(parts: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure these parts."""
    from lkmongo.local.mongod import EmbeddedMongod
    from lkmongo.settings import Settings

    sentences = voice_cases.load()
    stopping = [each for each in sentences if each.kind in HESITATING]
    plain = [each for each in sentences if each.kind not in HESITATING]
    turns = 8 if quick else _TURNS
    # A third of the sentences of the call stop to think, which is far more often than people do.
    spoken = [*plain[:: -(-len(plain) // (turns - turns // 3))], *stopping[:: -(-len(stopping) // (turns // 3))]]
    plain_ones = [voice_cases.say(each) for each in spoken]
    again = plain_ones[:: -(-len(plain_ones) // (4 if quick else _AGAIN))]
    shortest, longest = Settings.load().endpointing
    found: dict[str, Any] = {"setting": [shortest, longest], "load": {}}

    def loaded(part: str) -> None:
        found["load"][part] = round(os.getloadavg()[0], 1)
        tell(f"{time.strftime('%H:%M:%S')}  {part} (load {os.getloadavg()[0]:.1f})")

    if "hearing" in parts:
        loaded("hearing")
        heard, rows = await asyncio.to_thread(hear, [*plain[::6], *stopping[::4]] if quick else sentences)
        found |= {"heard": [asdict(each) for each in heard], "words": rows}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        mongod = stack.enter_context(EmbeddedMongod(folder / "mongod"))
        if "turns" in parts or "alone" in parts:
            async with running(folder, mongod.uri, "memory", "demo") as call:
                if "turns" in parts:
                    loaded("turns")
                    found["turns"] = [asdict(each) for each in await hold(call, folder, plain_ones)]
                if "alone" in parts:
                    loaded("alone")
                    await call.do("setting", shortest, longest, False)
                    found["alone"] = [asdict(each) for each in await hold(call, folder, again)]
        if "memory" in parts:
            loaded("memory")
            some = [each for each in plain_ones if each.sentence.kind not in HESITATING]
            found["compared"] = await compare(
                folder, mongod.uri, some[:: -(-len(some) // (3 if quick else _PAIRS))], 6 if quick else _THOUGHTS
            )
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that a run makes, as `voice_results.json` keeps them."""
    told: dict[str, Any] = {"machine": machine() | {"load": found["load"]}, "setting": found["setting"], "rows": []}
    heard = voice_report.heard_of(found)
    shortest, longest = found["setting"]
    chosen = Setting(shortest, longest)
    if "turns" in found:
        turns = [Turn(**each) for each in found["turns"]]
        told["rows"].append(voice_report.row(chosen.name, measured(turns), "in the call"))
        if heard:
            settings = [chosen, *(each for each in [*GRID, *OTHERS] if each != chosen)]
            otherwise = {each.name: expected(each, turns, heard) for each in settings}
            told["rows"] += [voice_report.row(name, each, "worked out") for name, each in otherwise.items()]
    if "alone" in found:
        turns = [Turn(**each) for each in found["alone"]]
        undetected = Setting(shortest, longest, detector=False)
        told["rows"].append(voice_report.row(undetected.name, measured(turns), "in the call"))
        said = {each.sentence for each in turns}
        before = [turn for each in found.get("turns", ()) if (turn := Turn(**each)).sentence in said]
        if before and heard:
            figures = expected(undetected, before, [each for each in heard if each.text in said][: len(said)])
            told["rows"].append(voice_report.row(undetected.name, figures, "worked out, of the same sentences"))
    if "words" in found:
        told["words"] = found["words"]
    if "compared" in found:
        told["added"] = {name: round(value, 2) for name, value in added(found["compared"]).items()}
    return told


def main() -> None:
    """Measure, print, and write the figures and the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sentences, in two minutes, and nothing is written")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; nothing is written")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")
    parser.add_argument("--raw", type=Path, help="write everything that was measured to this file, too")
    options = parser.parse_args()
    found = asyncio.run(run(options.only or PARTS, quick=options.quick))
    if options.raw:
        options.raw.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    told = summary(found)
    print(voice_report.everything(told))
    if not (options.quick or options.only or options.no_write):
        voice_report.RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "docs.generate"], cwd=ROOT, check=True)
        tell(f"written: {voice_report.RESULTS.relative_to(ROOT)}, docs/performance.md")


if __name__ == "__main__":
    main()
