"""Sample data: read from YAML, checked, written."""
