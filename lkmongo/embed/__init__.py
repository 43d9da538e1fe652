"""Text embeddings: by Voyage or any server with OpenAI's API, or locally without an account."""
