"""The agent on LiveKit: what it is told, what it can do, how a call is recorded."""
