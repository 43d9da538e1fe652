"""Hearing and speaking: which recogniser, which voice, and what text is between them."""
