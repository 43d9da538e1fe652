"""What all job processes share: done once, in the process that they are forked from, by importing this module.

Nothing here may leave a thread, an event loop or a connection behind, which a fork would break. What fails is done
again by the job, which reports it.
"""

from __future__ import annotations

from contextlib import suppress

from lkmongo.settings import Settings


def share(settings: Settings) -> None:
    """Make what a job would make for itself, and does not change."""
    if settings.embedder_kind == "local":
        from lkmongo.embed import local

        local.load()
    if not settings.has_language_model:
        import lkmongo.demo.llm  # noqa: F401 - its many regular expressions


with suppress(Exception):  # anything but an ImportError would end the process
    share(Settings.load())
