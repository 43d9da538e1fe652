"""Speech: text made for a voice, and what is heard as words made data."""
