"""Finds secrets and personal data in what people say, whatever form speech recognition gives it."""
