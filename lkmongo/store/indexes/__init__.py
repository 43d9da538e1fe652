"""Indexes: defined, compared, created, waited for, filled with vectors; and how long data is kept."""
