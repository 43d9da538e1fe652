"""Turning text into vectors: with Voyage, or on this machine without any account."""
