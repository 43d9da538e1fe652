"""Run the stand-in as a process: `python -m tests.standin --mongod-uri mongodb://127.0.0.1:27017 --profile atlas`.

The first line on standard output is a JSON document with the addresses; it ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from tests.standin import PROFILES, Standin


def main() -> None:
    """Read the options, run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--mongod-uri", required=True, help="the real server; a socket's path percent-encoded")
    parser.add_argument("--profile", default="atlas", choices=sorted(PROFILES))
    parser.add_argument("--server-version", help="the version to stand in for, such as 8.0")
    parser.add_argument("--port", type=int, default=0, help="where to listen; a free one unless given")
    parser.add_argument("--build-seconds", type=float, default=3.0)
    parser.add_argument("--lag-seconds", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Standin.before(
        options.mongod_uri,
        profile=options.profile,
        version=options.server_version,
        build_seconds=options.build_seconds,
        lag_seconds=options.lag_seconds,
        seed=options.seed,
        listen=options.port,
    ) as standin:
        addresses = {"uri": standin.uri, "replica_set_uri": standin.replica_set_uri}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
