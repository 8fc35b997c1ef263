"""Jina's API: reranking, which the first version of Cohere's shares."""
