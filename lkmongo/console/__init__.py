"""The agent in a terminal: typed, or aloud through microphone and loudspeaker."""
