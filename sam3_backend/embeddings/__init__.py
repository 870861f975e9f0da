"""Embeddings and refinements, and where they are kept."""
