"""Search of memories and knowledge: exact and Atlas strategies behind one interface, with rank fusion."""
