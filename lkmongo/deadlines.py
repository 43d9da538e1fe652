"""All deadlines of a call in seconds, with reasons: of a turn, the start, the lease, and the end.

Deadlines of commands, the web server and bulk work are defined where they are used.
"""

from __future__ import annotations

# A turn: the caller is waiting.
TOOL_READ = 1.0
"""A tool that looks up the caller's data: `MONGODB_READ` for the database, the rest for a busy machine."""
TOOL_CHANGE = 2.0
"""A tool that changes what is remembered: `ACKNOWLEDGED` for the database, the rest for a slow disk."""
TOOL_SEARCH = 3.0
"""A tool that searches the knowledge base."""
STATUS_LINE = 0.5
"""Silence before the agent says that it is still searching."""
MONGODB_READ = 0.5
"""One read of MongoDB in a turn."""
MONGODB_WRITE = 1.0
"""A tool's write to a declared collection: longer than a read, because it is not journaled to be stored later."""
PAST_CALLS = 0.9
"""A search of the caller's calls: `MEMORY_QUERY_EMBEDDING`, one read, and the comparison; less than `TOOL_READ`."""
BRIEFING_VECTOR = 0.05
"""How long the briefing waits for the vector of what was said: enough for a model on this machine. One of a service is
made while the turn ends, or is there in the next request."""
PING_AFTER = 0.25
"""How long slow work, such as a search, may run before MongoDB is pinged."""
CIRCUIT_OPEN = 6.0
"""How long MongoDB counts as unreachable after a failure: longer than until the next renewal of the lease."""
SEARCH = 1.0
"""A search on the server, without the embedding of the query."""
SEARCH_OVERLOADED = 60.0
"""How long searches are exact after MongoDB has refused one because it is overloaded, so that calls do not add to that.
Callers speak at their own times, so not all processes come back at once."""
RERANK = 0.6
"""Putting passages into a better order; after that they stay in that of the search. With `QUERY_EMBEDDING` and `SEARCH`
it is less than `TOOL_SEARCH`; a search that takes longer than these two leaves less."""
QUERY_EMBEDDING = 1.0
"""Embedding the query of a knowledge search; after that it is by words alone."""
MEMORY_QUERY_EMBEDDING = 0.4
"""The same for memories: shorter, because they are loaded and words alone find more."""
ACKNOWLEDGED = 0.5
"""Storing a change or a turn in MongoDB; after that it is synced to disk, and stored later."""
STABLE_TRANSCRIPT = 0.45
"""A partial transcript is searched for after so long without a new word. At three words a second they are 0.33 s apart:
a shorter wait would search for half a question, and each search costs an embedding."""
TURN_ORDER = 0.25
"""How long a turn waits for an earlier one: tool calls are reported by a separate event, after their text."""
TYPED_ORDER = 0.02
"""How long a typed message waits for one that was sent before it."""
KEYPAD_PAUSE = 1.5
"""Silence after the last key of a turn: who types what they know takes half a second for each key, and a second to find
one; who has chosen from a menu waits for the answer."""
KEYPAD_ENTRY_PAUSE = 4.0
"""The same for a number that is waited for, or that may be a PIN: callers read it off a paper, with the telephone away
from the ear. LiveKit's own task waits as long."""
KEYPAD_ENTRY = 30.0
"""How long something waits for a number from the keypad: to hear what is asked, find the number, and type it."""
DISK = 1.0
"""Writing to disk: a hanging disk must not keep turns from MongoDB, or calls from ending."""

# In the background: nobody waits, but a hanging attempt must give way to the next.
LOAD_ATTEMPT = 5.0
"""One attempt to load what is known of the caller."""
WRITE_ATTEMPT = 10.0
"""One attempt to store what a session has written, possibly many turns over a slow network."""

# The start of a call.
PRELOAD = 1.0
"""How long the greeting waits for the caller's data."""
RECOGNITION = 1.0
"""How long the greeting of a caller by telephone waits for their number, which may come late, and for whose it is."""
TURN_OVER = 6.0
"""How long an answer that is prepared while the caller may go on waits for the end of their turn, if they say who they
are in it: longer than LiveKit waits for them to go on."""
CALLER_THERE = 10.0
"""How long the first words wait for the caller's client, which is in the room before its media connection stands: that
takes a second on a bad line, and several on a slow telephone."""
USUAL_PRELOAD = 0.2
"""How long the caller's data usually takes: the embedding model, which blocks the process, is loaded after it."""
DIALLED = 2.0
"""How long an agent to which nobody is named waits for who has called, and by what number, where tenants have numbers.
LiveKit sends it for the call that it lets in, so both come within tenths of a second of each other."""
RESUME_READ = 1.0
"""How long an agent that resumes a call waits for its turns."""

# The lease of a call (see `outbox/lease.py`).
LEASE = 6.0
"""How long a call counts as alive after the last renewal, by the server's clock."""
LEASE_RENEWAL_EVERY = 2.0
"""Between two renewals."""
CONSENT_NEWS = 2.0
"""Between two looks for what the caller of a tenant that asks answered on the talk page, or withdrew there."""
LEASE_RENEWAL = 3.0
"""One renewal; a renewal that hangs is given up so that the next can be tried."""
LEASE_TRUSTED = 4.0
"""How long after a renewal a write may begin; the rest of the lease is time for the write to arrive."""

CALLS_COUNTED = LEASE + 1.0
"""After how long the caller's other calls are counted: those whose process died just before no longer count then."""

ACTIVITY = 5.0
"""Telling the caller's client what the agent does: one message, which no turn waits for."""

# The end of a call.
LAST_WORDS = 10.0
"""A sentence that is said before a call is ended, because it has become too long or is one too many."""
ON_ITS_WAY = 1.0
"""From the last sentence until the caller is removed: LiveKit passes on nothing to whom it has removed."""
ROOM_CLOSED_NEWS = 0.5
"""How long the event of a closed room may arrive after the shutdown."""
SETTLE = 2.0
"""Storing the caller's remaining data, including the gist."""
KEEP_ON_DISK = 2.0
"""The part of `HANG_UP` that is reserved for the disk."""
HANG_UP = 10.0
"""The end as a whole, with callbacks and the webhook; what is not stored by then is on disk."""
RECORD_END = 8.0
"""Storing the rest of the record at a hang-up."""
AWAY = 1.0
"""How long the end waits for an unreachable MongoDB: the rest is on disk; the erasure of an erased call deletes it once
the lease has expired."""
ERASED_END = LEASE + 1.0
"""How long an erased call may take to delete its traces, as an abandoned write may arrive within the lease."""
END_CALLBACK = 5.0
"""A callback that is told of the end, after the record; they run side by side, and beside the webhook."""
WEBHOOK = 5.0
"""One delivery of a webhook: shorter than a lease, so that an erasure waits for it."""
LEARN = 60.0
"""One request to a language model about a call that is over. Its own process has what is left of `HANG_UP` for it; any
other may take so long."""
SESSION_END = 20.0
"""The limit of LiveKit's SDK for the end, after which it kills the job."""
