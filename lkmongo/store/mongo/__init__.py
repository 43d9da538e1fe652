"""Access to MongoDB: the client and its event loop, operations and their errors, the schema."""
