"""Run commands in processes that need not import everything first.

Importing the LiveKit SDK takes seconds, once a process. This server imports it once and forks for each command, so
that a command is still a process of its own: its own arguments, environment, folder, streams, signals and exit code.
`tests/cli/test_terminal.py` and the wheel's test start the real program.

A fork costs several times what most commands do. What is run to its end while the test waits is therefore run by a
clerk, one fork for many commands: arguments, environment, folder, streams and exit code are the command's own there
too, modules of its folder and declarations are gone after it, and if a thread, an exit function or something unwritten
is left, the clerk ends with it.

It reads requests from standard input, a line each, and answers each with {"to": the request's number, "is": answer},
or with {"to", "error"}:

- {"number", "start": {"program", "arguments", "env", "cwd", "files": [stdin, stdout, stderr], "patient", "alone"}}: the
  number of the process, as soon as it runs `main` of the module `program`; the files may be pipes or a terminal, a
  patient one waits longer for MongoDB, and one that is not alone is the clerk;
- {"number", "wait": number of a process}: its exit code, or that of the command that the clerk was given last.

`Zygote` of `tests/cli/started.py` starts it, and talks to it.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib
import json
import logging
import os
import socket
import sys
import tempfile
import termios
import threading
import traceback

from tests.patience import be_patient


def _start(request: dict) -> int:
    if request["alone"] or not request["patient"]:
        return _fork(request)
    if _clerks and _clerks[0].takes(request):
        return _clerks[0].process
    _clerks[:] = [_Clerk()]
    _clerks[0].takes(request)
    return _clerks[0].process


def _open(paths: list[str]) -> list[int]:
    into = os.O_WRONLY | os.O_CREAT
    files = []
    for path, flags in zip(paths, (os.O_RDONLY, into, into), strict=True):
        # A pipe whose other side has gone is an error, not something to wait for.
        files.append(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK, 0o600))
        os.set_blocking(files[-1], True)
    return files


def _fork(request: dict) -> int:
    """Run a command in a process of its own, and return its number."""
    files = _open(request["files"])
    process = os.fork()
    if process == 0:
        _become(request, files)
    for file in files:
        os.close(file)
    _codes.pop(process, None)  # of an earlier process with this number
    return process


def _become(request: dict, files: list[int]) -> None:
    """Be the command, in a process that was just forked."""
    os.setsid()
    if request["patient"]:
        be_patient()
    code = _run(request, files)
    atexit._run_exitfuncs()
    os._exit(max(code, _flush()))


def _run(request: dict, files: list[int]) -> int:
    """Run the command on these files, and return its exit code."""
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
        os.close(file)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    tempfile.tempdir = None  # it depends on the environment
    sys.argv = ["lkmongo", *request["arguments"]]
    try:
        importlib.import_module(request["program"]).main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _flush() -> int:
    """Write what is not yet written; not 0 if that cannot be done."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 1
    return code


class _Clerk:
    """A process that runs one command after another, as if each had it for itself."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        _codes.pop(self.process, None)
        self._socket = ours
        self._lines = ours.makefile()
        self._given = self._answered = 0

    def takes(self, request: dict) -> bool:
        """Give it a command, if it is still there."""
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return False
        self._given += 1
        return True

    def wait(self) -> int:
        """Wait for the end of the last command, or of the clerk if that comes first; its exit code."""
        while answer := self._lines.readline():
            self._answered += 1
            code, is_over = json.loads(answer)
            if is_over:
                self._end()
            if is_over or self._answered == self._given:
                return code
        return self._end()

    def _end(self) -> int:
        _clerks.clear()
        self._lines.close()
        self._socket.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


_clerks: list[_Clerk] = []
"""The one there is, if any."""


def _serve(requests: socket.socket) -> None:
    """Be a clerk, in a process that was just forked."""
    os.setsid()
    be_patient()
    from lkmongo import declarations

    declared, path, threads = declarations._declared, list(sys.path), threading.active_count()
    modules = set(sys.modules)
    at_exit: list[object] = []
    register, unregister = atexit.register, atexit.unregister
    atexit.register = lambda function, *more, **named: at_exit.append(function) or register(function, *more, **named)
    atexit.unregister = lambda function: (function in at_exit and at_exit.remove(function)) or unregister(function)
    for line in requests.makefile():
        request = json.loads(line)
        code = _run(request, _open(request["files"]))
        unwritten = _flush()
        for name in [name for name in sys.modules if name not in modules]:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(request["cwd"]):
                del sys.modules[name]
        sys.path[:] = path
        declarations._declared = declared
        logging.getLogger().handlers.clear()
        is_over = bool(unwritten or at_exit) or threading.active_count() > threads
        if is_over:
            atexit._run_exitfuncs()
        requests.sendall(json.dumps([max(code, unwritten), is_over]).encode() + b"\n")
        if is_over:
            break
    os._exit(0)


def main() -> None:
    """Import what commands need, then serve until standard input ends."""
    import gc
    import pkgutil

    import lkmongo

    for module in pkgutil.walk_packages(lkmongo.__path__, "lkmongo."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "tests.local_support",
        "bm25s",
        "dotenv",
        "livekit.agents.testing",
        "livekit.api",
        "markdown_it",
        "rich.console",
    ):
        importlib.import_module(name)
    importlib.import_module("lkmongo.embed.local").load()  # the model, too: each command reads it anew otherwise
    importlib.import_module("lkmongo.cli").program()
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page there is
    out = os.fdopen(os.dup(1), "w")
    os.register_at_fork(after_in_child=out.close)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"is": _start(request["start"]) if "start" in request else _wait(request["wait"])}
        except OSError as error:
            answer = {"error": str(error)}
        out.write(json.dumps({"to": request["number"]} | answer) + "\n")
        out.flush()


_codes: dict[int, int] = {}
"""Of the processes that have been waited for; a test whose time was over may ask again."""


def _wait(process: int) -> int:
    if _clerks and _clerks[0].process == process:
        return _clerks[0].wait()
    if process not in _codes:
        _codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return _codes[process]


if __name__ == "__main__":
    main()
