"""What a session writes and how none of it is lost: the outbox and its journal on disk, lease, retries, recovery."""
