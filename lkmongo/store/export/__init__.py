"""Sessions as files: JSON lines, CSV, Markdown, Parquet."""
