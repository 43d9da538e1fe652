"""Indexes: definitions, creation, readiness, missing vectors; and the retention of data."""
