"""Conversations under test: scenarios in YAML, held with the real agent on a database of their own."""
