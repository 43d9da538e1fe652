"""What kind of deployment is stood in for: which commands exist and how they answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

RELEASES = {"7.0": "7.0.28", "8.0": "8.0.12", "8.1": "8.1.2", "8.2": "8.2.3", "8.3": "8.3.4"}
"""The release that `buildInfo` names for each version."""


@dataclass(frozen=True)
class Profile:
    """One kind of deployment.

    Attributes:
        search: `absent` relays everything to a server that knows no search; `unconfigured` is a server without a
            search process; `on` has one.
        duplicate: `strict` refuses every second index of a name; `lenient` accepts an identical one as a no-op.
        drops_at_once: False keeps a dropped index in the list as DELETING for a while.
        quota: search indexes for the whole cluster, of any type.
        small: definitions are limited to 3 KB and 300 fields.
        embeds: an embedding service is set up for `autoEmbed` indexes.
        reranks: native reranking is switched on for the project.
    """

    name: str
    search: Literal["absent", "unconfigured", "on"] = "on"
    version: str = "8.2"
    lists_type: bool = True
    duplicate: Literal["strict", "lenient"] = "strict"
    drops_at_once: bool = False
    quota: int | None = None
    small: bool = False
    embeds: bool = False
    management_down: bool = False
    mongot_down: bool = False
    reranks: bool = False

    @property
    def number(self) -> tuple[int, int]:
        """The version, to compare with."""
        major, minor = self.version.split(".")
        return int(major), int(minor)

    @property
    def release(self) -> str | None:
        """What `buildInfo` says instead of the truth, or None for the truth."""
        return None if self.search == "absent" else RELEASES[self.version]

    def error_prefix(self, namespace: str) -> str:
        """What the server writes before an error of the search process."""
        if self.number >= (8, 1):
            return f"Executor error during aggregate command on namespace: {namespace} :: caused by :: "
        return "PlanExecutor error during aggregation :: caused by :: "


_ALL = (
    Profile("bare", search="absent"),
    Profile("nosearch", search="unconfigured"),
    Profile("mgmt_down", management_down=True),
    Profile("community", lists_type=False, duplicate="lenient", drops_at_once=True),
    Profile("atlas"),
    Profile("atlas_embeds", embeds=True),
    Profile("atlas_7_0", version="7.0"),
    Profile("atlas_8_0", version="8.0"),
    Profile("atlas_8_1", version="8.1"),
    Profile("atlas_8_3", version="8.3", reranks=True),
    Profile("m0", version="8.0", quota=3, small=True),
    Profile("flex", version="8.0", quota=10, small=True),
    Profile("mongot_down", mongot_down=True),
)
PROFILES = {profile.name: profile for profile in _ALL}


def profile_named(name: str, version: str | None = None) -> Profile:
    """The profile `name`, on another server version if one is given."""
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    if version is None:
        return PROFILES[name]
    if version not in RELEASES:
        raise ValueError(f"no version {version!r}; there are {', '.join(RELEASES)}")
    return replace(PROFILES[name], version=version)
