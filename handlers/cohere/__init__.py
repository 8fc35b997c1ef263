"""Cohere's API: embeddings, and the second version of reranking."""
