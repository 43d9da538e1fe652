"""A mongod of lkmongo's own, for a machine where no MONGODB_URI is set.

`EmbeddedMongod` starts it or joins the one that runs; `find_server` tells which binary that would be.
"""

from __future__ import annotations

from lkmongo.local.binary import Server, find_server
from lkmongo.local.folder import data_of_other_versions
from lkmongo.local.mongod import EmbeddedMongod

__all__ = ["EmbeddedMongod", "Server", "data_of_other_versions", "find_server"]
