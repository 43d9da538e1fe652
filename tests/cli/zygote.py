"""Run commands in processes that need not import everything first.

Importing the LiveKit SDK takes seconds, once a process. This server imports it once and forks for each command, so
that a command is still a process of its own: its own arguments, environment, folder, streams, signals and exit code.
`tests/cli/test_terminal.py` and the wheel's test start the real program.

It reads requests from standard input, a line each, and answers each with {"to": the request's number, "is": answer},
or with {"to", "error"}:

- {"number", "start": {"arguments", "env", "cwd", "files": [stdin, stdout, stderr], "patient"}}: the number of the
  process, as soon as it runs; the files may be pipes or a terminal, and a patient one waits longer for MongoDB;
- {"number", "wait": number of a process}: its exit code.

`Zygote` of `tests/cli/started.py` starts it, and talks to it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import termios

from tests.patience import be_patient


def _fork(request: dict) -> int:
    """Run a command in a process of its own, and return its number."""
    into = os.O_WRONLY | os.O_CREAT
    files = []
    for path, flags in zip(request["files"], (os.O_RDONLY, into, into), strict=True):
        # A pipe whose other side has gone is an error, not something to wait for.
        files.append(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK, 0o600))
        os.set_blocking(files[-1], True)
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
    sys.argv = ["lkmongo", *request["arguments"]]
    from lkmongo.cli import main

    if request["patient"]:
        be_patient()
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    else:
        code = 0
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    os._exit(code)


def main() -> None:
    """Import what commands need, then serve until standard input ends."""
    import gc
    import importlib
    import pkgutil

    import lkmongo

    for module in pkgutil.walk_packages(lkmongo.__path__, "lkmongo."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("bm25s", "dotenv", "livekit.agents.testing", "livekit.api", "markdown_it", "rich.console"):
        importlib.import_module(name)
    importlib.import_module("lkmongo.embed.local")._load()  # the model, too: each command reads it anew otherwise
    importlib.import_module("lkmongo.cli").program()
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page there is
    out = os.fdopen(os.dup(1), "w")
    os.register_at_fork(after_in_child=out.close)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"is": _fork(request["start"]) if "start" in request else _wait(request["wait"])}
        except OSError as error:
            answer = {"error": str(error)}
        out.write(json.dumps({"to": request["number"]} | answer) + "\n")
        out.flush()


_codes: dict[int, int] = {}
"""Of the processes that have been waited for; a test whose time was over may ask again."""


def _wait(process: int) -> int:
    if process not in _codes:
        _codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return _codes[process]


if __name__ == "__main__":
    main()
