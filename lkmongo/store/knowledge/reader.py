"""Reads documents in a child process, because a small file can keep a parser busy for hours or fill the memory.

The child gets the bytes of a document and answers with its passages. One child reads many documents, as its start takes
0.2 s; it is replaced when it has failed, or has grown.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from lkmongo import child_process
from lkmongo.errors import LkmongoError, MissingExtraError
from lkmongo.files import write_all
from lkmongo.model import Passage
from lkmongo.store.knowledge.formats import DocumentError, NoTextError, passages_of

_MB = 1024**2
_PROGRAM = (
    "import json, sys; given = json.loads(sys.argv[1]); sys.path[:0] = given['paths']; "
    "from lkmongo.store.knowledge import reader; reader.serve(reader.Limits(**given['limits']), given['pipe'])"
)
_REQUEST = struct.Struct("!II")
"""The bytes of the name and of the document, which follow."""
_ANSWER = struct.Struct("!?I")
"""Whether it is the child's last, and its bytes, which follow."""
_BY_THE_CLOCK = 6
_SPLIT = "split it into several, or save it in a simpler format"


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one document may take.

    Attributes:
        seconds: of the processor; six times as many by the clock, as the machine may be busy.
        memory: bytes of the child process.
        output: bytes of the passages.
    """

    seconds: float = 20
    memory: int = 512 * _MB
    output: int = 64 * _MB


class DocumentLimitError(DocumentError):
    """Reading it takes more than is allowed."""

    code = "document_limit"


class Reader:
    """Reads documents within `limits`, one at a time; `close` also ends a reading that is under way."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._child: subprocess.Popen[bytes] | None = None
        self._life = -1
        """The end of a pipe that is open as long as this process and the child are to live."""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the child, if there is none, and do not wait for it: it can be ready when it is needed.

        Raises:
            LkmongoError: the process cannot be started.
        """
        if self._child and self._child.poll() is not None:  # somebody has ended it while it was idle
            self._end()
        if self._child is None:
            self._child, self._life = _start(self._limits)

    def close(self) -> None:
        if child := self._child:
            child.kill()
        with self._lock:  # a thread that reads meets the end of the child
            self._end()

    def read(self, data: bytes, source: str) -> list[Passage]:
        """The passages of a document, which is read by the suffix of `source`.

        Raises:
            NoTextError: it is empty, or only has headings.
            DocumentLimitError: it exceeds one of the limits, which the message names.
            DocumentError: it does not match its suffix. The message is to be prefixed with the document's name.
            MissingExtraError: what reads HTML or PDF is not installed.
            LkmongoError: the process cannot be started.
        """
        with self._lock:
            self.start()
            assert self._child is not None  # noqa: S101 - for the type checker
            is_last = True
            try:
                is_last, answer = self._ask(self._child, data, source)
            finally:
                if is_last:
                    self._end()
        if "limit" in answer:
            raise self._exceeded(answer["limit"])
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"], why=answer["why"], hint=answer["hint"])
        return [Passage(source, chunk, title, content) for chunk, (title, content) in enumerate(answer["passages"])]

    def _ask(self, child: subprocess.Popen[bytes], data: bytes, source: str) -> tuple[bool, dict[str, Any]]:
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - for the type checker
        deadline = time.monotonic() + _BY_THE_CLOCK * self._limits.seconds
        name = source.encode()
        try:
            for part in (_REQUEST.pack(len(name), len(data)), name, data):
                write_all(child.stdin.fileno(), part)
            is_last, size = _ANSWER.unpack(_exactly(child.stdout.fileno(), _ANSWER.size, deadline))
            if size > self._limits.output:
                raise self._exceeded("output")
            return is_last, json.loads(_exactly(child.stdout.fileno(), size, deadline))
        except TimeoutError as error:
            raise self._exceeded("seconds") from error
        except (EOFError, BrokenPipeError) as error:
            raise self._ended(child.wait()) from error

    def _ended(self, code: int) -> DocumentError:
        if code == -signal.SIGPROF:
            return self._exceeded("seconds")
        if code == child_process.OUTGROWN:
            return self._exceeded("memory")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DocumentError("cannot be read", why=f"the process that reads it ended with {how}", hint=_SPLIT)

    def _exceeded(self, limit: str) -> DocumentLimitError:
        limits = self._limits
        said = {
            "seconds": f"takes more than {limits.seconds:g} s to read",
            "memory": f"takes more than {limits.memory // _MB} MB of memory to read",
            "output": f"holds more than {limits.output // _MB} MB of text",
        }
        return DocumentLimitError(said[limit], hint=_SPLIT)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            os.close(self._life)
            with child:  # closes its pipes and waits
                pass


_ERRORS: dict[str, type[LkmongoError]] = {
    each.__name__: each for each in (DocumentError, NoTextError, MissingExtraError)
}


def _start(limits: Limits) -> tuple[subprocess.Popen[bytes], int]:
    """The child, and the pipe with whose end it ends."""
    paths = [*(path for path in sys.path if path), str(Path(__file__).parents[3])]
    watched, life = os.pipe()
    given = json.dumps({"paths": paths, "limits": asdict(limits), "pipe": watched})
    try:
        child = subprocess.Popen(  # noqa: S603 - no part of it is input
            [sys.executable, "-I", "-S", "-c", _PROGRAM, given],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=child_process.minimal_environment(),
            pass_fds=(watched,),
            start_new_session=True,  # the terminal's Ctrl-C is for the parent
        )
    except OSError as error:
        os.close(life)
        raise LkmongoError("the process that reads documents cannot be started", why=str(error)) from error
    finally:
        os.close(watched)
    return child, life


def _exactly(descriptor: int, size: int, deadline: float) -> bytes:
    """Read so many bytes until a monotonic time. Raises TimeoutError or EOFError."""
    data = bytearray()
    while len(data) < size:
        if not select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise TimeoutError
        if not (part := os.read(descriptor, size - len(data))):
            raise EOFError
        data += part
    return bytes(data)


def serve(limits: Limits, pipe: int) -> None:
    """The child: read documents from stdin until it ends, and answer on stdout; `pipe` ends with the parent."""
    child_process.confine(limits.memory)
    child_process.end_with(pipe)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    requests, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    while header := requests.read(_REQUEST.size):
        name, size = _REQUEST.unpack(header)
        source, data = requests.read(name).decode(), requests.read(size)
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)  # then the signal ends the process, whatever it does
        answer = _answer(data, source, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        has_grown = child_process.largest() > limits.memory // 4
        write_all(answers, _ANSWER.pack(has_grown, len(answer)) + answer)
        if has_grown:
            return


def _answer(data: bytes, source: str, limits: Limits) -> bytes:
    try:
        passages = [[each.title, each.content] for each in passages_of(data, source)]
        answer = _encoded(passages=passages)
    except MemoryError:
        return _encoded(limit="memory")
    except LkmongoError as error:
        return _encoded(error=type(error).__name__, message=error.message, why=error.why, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - the fault of a parser, and other documents can be read
        why = f"{type(error).__name__}: {error}"[:200]
        return _encoded(error=DocumentError.__name__, message="cannot be read", why=why, hint=None)
    return answer if len(answer) <= limits.output else _encoded(limit="output")


def _encoded(**answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode(errors="replace")
