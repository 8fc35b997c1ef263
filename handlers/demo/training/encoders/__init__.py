"""How the demo embedder and the demo reranker are made: the text they learn from, the training and the check."""
