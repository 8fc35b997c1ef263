"""Decoders that judge a pair of texts read it in one prompt, which a template writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from specserve.engine.api import Tokenizer
from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.chat.template import ChatTemplate

QWEN3_RERANKER = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: "
    "{{ instruction | default('Given a web search query, retrieve relevant passages that answer the query', true) }}\n"
    "<Query>: {{ query }}\n"
    "<Document>: {{ document }}<|im_end|>\n"
    "<|im_start|>assistant\n"
    "<think>\n\n</think>{{ '\n\n' }}"  # a last newline of its own would be dropped
)
"""The prompt this family was trained with, as its model cards give it; its own chat template is one for talking."""
CHAT_MARK = "<|im_start|>"
READS_PAIRS = re.compile(r"\bquery\b.*\bdocument\b|\bdocument\b.*\bquery\b", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTemplate:
    """Which template writes the pairs of a request, and with which variables besides the texts.

    `own` is the request's template. Templates find the texts as `query` and `document`, and as the contents of two
    messages whose roles have these names.
    """

    prompts: Prompts
    tokenizer: Tokenizer
    own: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def text(self, query: str, document: str) -> str:
        """Blocks. Raises InvalidPrompt, UnsupportedParameter."""
        conversation = Conversation(
            messages=[{"role": "query", "content": query}, {"role": "document", "content": document}],
            template_kwargs={**self.variables, "query": query, "document": document},
        )
        if self.own is not None:
            return self.prompts.text(self.tokenizer, conversation, self.own)
        source = self.prompts.source(self.tokenizer) or ""
        if READS_PAIRS.search(source):
            return self.prompts.text(self.tokenizer, conversation)
        if CHAT_MARK not in source:
            raise InvalidPrompt(
                "this model judges a pair in one prompt, and its folder has no template that writes one from a query "
                "and a document; start the server with --chat-template",
                param="query",
            )
        return builtin().render(conversation)


@lru_cache(maxsize=1)
def builtin() -> ChatTemplate:
    return ChatTemplate(QWEN3_RERANKER, {}, "string")


def template_variables(instruction: str | None, variables: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(variables or {}), **({} if instruction is None else {"instruction": instruction})}
