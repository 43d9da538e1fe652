"""The door of the library: the memory of a LiveKit agent, and of programs without LiveKit."""
