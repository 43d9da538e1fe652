"""MongoDB as the store speaks to it: the client and its loop, operations and their errors, collections."""
