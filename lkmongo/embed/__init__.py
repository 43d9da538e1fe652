"""Text embeddings: by Voyage, or locally without an account."""
