"""Checks of everything a user can set up wrong: each is ok, warn, fail, or skip when it is not in use.

A check changes nothing, except that the embedded mongod is started and stopped again if MONGODB_URI is not set.
"""

from __future__ import annotations

from lkmongo.doctor.check import Check, Status, worst
from lkmongo.doctor.examine import NAMES, choose, examine

__all__ = ["NAMES", "Check", "Status", "choose", "examine", "worst"]
