"""Ears and a voice for the agent: on this machine, or by somebody's service."""
