"""What a call writes, and how none of it is lost: the journal on disk, the lease, retries, recovery."""
