"""What a user can get wrong, looked at part by part: each is found to be ok, doubtful, wrong, or not in use.

A look changes nothing, except that the embedded mongod is started, and stopped again, where no MONGODB_URI is set.
"""

from __future__ import annotations

from lkmongo.doctor.check import Check, Status, worst
from lkmongo.doctor.examine import NAMES, choose, examine

__all__ = ["NAMES", "Check", "Status", "choose", "examine", "worst"]
