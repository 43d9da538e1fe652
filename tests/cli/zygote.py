"""Run commands in processes that need not import everything first.

Importing the LiveKit SDK takes seconds, once a process. This server imports it once and forks for each command, so
that a command is still a process of its own: its own arguments, environment, folder, streams, signals and exit code.
`tests/cli/test_terminal.py` and the wheel's test start the real program.

It reads lines from standard input, each a list of commands that run side by side: {"arguments", "env", "cwd",
"files": [stdin, stdout, stderr]}. It answers with the list of their exit codes.
"""

from __future__ import annotations

import json
import os
import sys


def _become(request: dict) -> None:
    """Be the command, in a process that was just forked."""
    os.setsid()
    for descriptor, (path, flags) in enumerate(
        zip(request["files"], (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["lkmongo", *request["arguments"]]
    from lkmongo.cli import main

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
    for name in ("bm25s", "dotenv", "livekit.agents.testing", "livekit.api", "markdown_it", "rich.table"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page there is
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        processes = []
        for request in json.loads(line):
            process = os.fork()
            if process == 0:
                out.close()
                _become(request)
            processes.append(process)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        out.write(f"{json.dumps(codes)}\n")
        out.flush()


if __name__ == "__main__":
    main()
