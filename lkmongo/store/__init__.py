"""MongoDB: what is kept of people, and what the agent may look up. Knows nothing of LiveKit."""
