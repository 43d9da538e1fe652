"""Finding what is meant among what is known: rank fusion, the exact scan, and the strategies behind one interface."""
