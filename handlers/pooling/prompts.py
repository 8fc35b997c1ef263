"""What the authors of a model want before a text, by what the vector is for."""

from __future__ import annotations

from specserve.engine.api import ModelInfo

QUERY = ("query", "search_query", "retrieval.query")
DOCUMENT = ("document", "passage", "corpus", "search_document", "retrieval.passage")
CLASSIFICATION = ("classification", "Classification")
CLUSTERING = ("clustering", "Clustering")


def with_prompt(text: str, model: ModelInfo, purposes: tuple[str, ...] = ()) -> str:
    """The text behind the first prompt of these names, else behind the model's default, else as it is."""
    name = next((name for name in purposes if name in model.prompts), model.default_prompt_name)
    return text if name is None else model.prompts.get(name, "") + text
