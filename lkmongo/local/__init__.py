"""The embedded mongod, used if MONGODB_URI is not set.

`EmbeddedMongod` starts it or joins a running one; `find_server` finds its binary.
"""

from __future__ import annotations

from lkmongo.local.binary import Server, find_server
from lkmongo.local.folder import data_of_other_versions
from lkmongo.local.mongod import EmbeddedMongod

__all__ = ["EmbeddedMongod", "Server", "data_of_other_versions", "find_server"]
