"""`lkmongo agent run` on a machine that is busy with tests.

A worker tells its load, and takes no jobs while that is high, except with `--dev`, which changes other things, too.
"""

from __future__ import annotations

import math


def main() -> None:
    """Be the command line; the worker takes jobs whatever the load."""
    from livekit.agents import worker

    from lkmongo.cli import main as cli

    object.__setattr__(worker._default_load_threshold, "prod_default", math.inf)
    cli()


if __name__ == "__main__":
    main()
