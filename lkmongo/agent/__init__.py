"""The agent on LiveKit: its tools, its briefing, its models, and how a session is recorded."""
