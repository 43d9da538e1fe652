"""The LiveKit worker: before a job, in a job, and taking over from a worker that died."""
