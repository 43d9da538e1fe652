"""Knowledge: from documents to passages that the agent may quote."""
