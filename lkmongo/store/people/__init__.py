"""People: profiles, memories, orders, web visitors; merging, erasing, and what must not come back."""
