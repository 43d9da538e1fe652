"""Sample data: read from YAML, checked and written."""
