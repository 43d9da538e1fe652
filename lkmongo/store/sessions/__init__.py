"""Sessions and their turns: recorded, listed, searched, counted, shown."""
