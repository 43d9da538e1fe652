"""lkmongo: a LiveKit voice agent that remembers, with MongoDB as its memory."""

__version__ = "0.1.0"
