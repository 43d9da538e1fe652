"""Sessions: the conversations that took place, with their turns; searched, summed up, shown."""
