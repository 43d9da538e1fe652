"""What encryption costs: the start of a session with 500 slots beside one that is plain, and a value.

    python -m benchmarks.encryption [--rounds N]

Both ways take turns in one process, through a network with a round trip of 20 ms, each session with the person's key
fetched anew. Prints the figures of docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import AsyncExitStack

from benchmarks.measure import take_turns, tell
from benchmarks.stage import CALLER, Ways, connected, encrypted, known, staged
from lkmongo.store.mongo.cipher import Cipher
from lkmongo.store.mongo.encryption import slot_place

SLOTS = 500
RTT_MS = 20.0
_TEXT = f"what the caller said of a thing, in about a hundred and ten characters: {'so' * 19}"
_VALUES = 20_000


async def _start(ways: Ways, processor: list[float]) -> float:
    began, used = time.perf_counter(), time.process_time()
    async with ways.call() as call:
        await known(call)
        took = (time.perf_counter() - began) * 1_000
        processor.append((time.process_time() - used) * 1_000)
        assert len(call.caller.slots) == SLOTS
        await ways.quiet()
    return took


async def measure(rounds: int) -> None:
    """Print what was measured."""
    with staged() as stage:
        async with AsyncExitStack() as stack:
            plain = stage.settings().model_copy(update={"mongodb_db": "plain"})
            both = {"plain": plain, "encrypted": encrypted(stage)}
            ways = {
                name: await stack.enter_async_context(connected(stage, embedding=0, settings=each))
                for name, each in both.items()
            }
            for each in ways.values():
                await fill(each)
            stage.network.rtt(RTT_MS)
            processor: dict[str, list[float]] = {name: [] for name in ways}
            runs = {name: (lambda each=each, name=name: _start(each, processor[name])) for name, each in ways.items()}
            taken = await take_turns(runs, rounds)
    for name, values in taken.items():
        ordered = sorted(values)
        median, p95 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
        used = sorted(processor[name])[len(processor[name]) // 2]
        figures = f"median {median:.1f} ms, p95 {p95:.1f}, processor {used:.1f}"
        tell(f"session start, {SLOTS} slots, {RTT_MS:g} ms, {name}: {figures}")
    _values()


async def fill(ways: Ways) -> None:
    """Slots with vectors, as those of a person who has called before."""
    labels = [f"detail_{number:04d}" for number in range(SLOTS)]
    facts = [await ways.store.memories.remember(CALLER, label, f"{label} {_TEXT}") for label in labels]
    vectors = await ways.embedder.embed([fact.embedded_text for fact in facts], kind="document")
    for fact, vector in zip(facts, vectors, strict=True):
        await ways.store.memories.set_vector(CALLER, fact, vector, ways.embedder.model)


def _values() -> None:
    """By the processor's time, which a busy machine changes least."""
    cipher, place = Cipher(CALLER, b"i" * 16, b"k" * 32), slot_place("content", "pet")
    began = time.process_time()
    sealed = [cipher.seal(place, _TEXT) for _ in range(_VALUES)]
    between = time.process_time()
    for each in sealed:
        cipher.open(place, each)
    ended = time.process_time()
    tell(f"a value of {len(_TEXT)} characters: {(between - began) / _VALUES * 1e6:.1f} us to encrypt, ")
    tell(f"  {(ended - between) / _VALUES * 1e6:.1f} us to decrypt, {len(sealed[0]) - len(_TEXT)} bytes more")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
