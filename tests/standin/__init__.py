"""A stand-in for MongoDB Atlas Search: a proxy before a real mongod that adds search, as strict as the real service."""

from tests.standin.commands import Recorded
from tests.standin.profiles import PROFILES
from tests.standin.server import Standin

__all__ = ["PROFILES", "Recorded", "Standin"]
