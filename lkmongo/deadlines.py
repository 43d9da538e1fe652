"""Every wait of a call, in seconds: of a turn, of its start, of its end, of its lease. Each with its reason.

Deadlines of commands, of the web server and of bulk work are not here: they stand beside the work they limit.
"""

from __future__ import annotations

# A turn: somebody listens to the silence.
TOOL_READ = 1.0
"""A tool that looks up the caller's data: `MONGODB_READ` for the database, the rest for a busy machine."""
TOOL_CHANGE = 2.0
"""A tool that changes what is remembered: `ACKNOWLEDGED` for the database, the rest for a slow disk."""
TOOL_SEARCH = 3.0
"""A tool that searches the knowledge base."""
STATUS_LINE = 0.5
"""Silence before a slow search says that it is still searching."""
MONGODB_READ = 0.5
"""One read of MongoDB in a turn."""
PING_AFTER = 0.25
"""How long something slow, such as a search, may run before MongoDB is pinged to see whether it is there at all."""
CIRCUIT_OPEN = 6.0
"""How long MongoDB counts as away after it did not answer: longer than until the next renewal of a lease tells."""
SEARCH = 1.0
"""A search on the server, beside the embedding of the query."""
QUERY_EMBEDDING = 1.0
"""A knowledge search waits so long for the vector of its query; after that it goes by words alone."""
MEMORY_QUERY_EMBEDDING = 0.4
"""The same of a search among memories: they are loaded, so words alone find more."""
ACKNOWLEDGED = 0.5
"""A change or a turn waits so long for MongoDB to take it; after that it is synced to disk, and stored later."""
TURN_ORDER = 0.25
"""A turn waits so long for one that was made before it: tool calls come by their own event, later than their text."""
DISK = 1.0
"""The record waits so long for the disk: one that hangs keeps no turn from MongoDB and no call from ending."""

# Beside the turns: nobody waits, but an attempt that hangs must give way to the next.
LOAD_ATTEMPT = 5.0
"""One attempt to load what is known of the caller."""
SAVE_ATTEMPT = 5.0
"""One attempt to store what the caller asked to have remembered."""
RECORD_ATTEMPT = 10.0
"""One attempt to store turns, of which there may be many on a slow line."""

# The start of a call.
PRELOAD = 1.0
"""The greeting waits so long for what is known of the caller."""
RESUME_READ = 1.0
"""An agent that takes over waits so long for the turns of the call it continues."""

# The lease of a call (see `outbox/lease.py`).
LEASE = 6.0
"""How long a call counts as alive after its last renewal, by the server's clock."""
LEASE_RENEWAL_EVERY = 2.0
"""Between two renewals."""
LEASE_RENEWAL = 3.0
"""One renewal; a renewal that hangs is given up so that the next can be tried."""
LEASE_TRUSTED = 4.0
"""After a renewal, a write may begin so long. Less than the lease: the rest is time for the write to arrive."""

# The end of a call.
ROOM_CLOSED_NEWS = 0.5
"""The news that the room was closed may arrive so long after the order to shut down."""
SUMMARY = 2.0
"""The language model has so long to say what the call was about."""
SETTLE = 2.0
"""What is still to be stored of the caller, the gist included."""
KEEP_ON_DISK = 2.0
"""Of `HANG_UP`, what is left for the disk when everything before it took too long."""
HANG_UP = 10.0
"""Everything at the end together; what is not stored by then is on disk."""
RECORD_END = 8.0
"""Storing the rest of the record at a hang-up."""
AWAY = 1.0
"""The end waits so long for a MongoDB that is known to be away: what is left is on disk, and of an erased call the
erasure deletes it when the lease has run out."""
ERASED_END = LEASE + 1.0
"""An erased call may take so long to delete its traces: a write that was given up may still arrive within the lease."""
SESSION_END = 20.0
"""What LiveKit's SDK allows for all of it before it kills the job."""
