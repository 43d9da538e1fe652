"""The web server: join tokens for LiveKit's clients, who is calling, and a page to talk on."""
