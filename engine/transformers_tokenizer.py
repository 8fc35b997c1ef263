"""Tokenizers that only transformers can build: model folders without `tokenizer.json`.

Importing this module imports transformers and torch; `engine.tokenizer` does so only when it must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from transformers import AutoTokenizer

from specserve.engine.api import Tokenizer
from specserve.engine.detokenizer import Detokenizer
from specserve.engine.errors import ModelLoadError
from specserve.engine.tokenizer import HuggingFaceTokenizer, published_configuration, read_generation_eos


def load(folder: Path, trust_remote_code: bool) -> Tokenizer:
    """Raises ModelLoadError when transformers finds no tokenizer in the folder either."""
    try:
        loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a model's own code raises
        raise ModelLoadError(
            f"no tokenizer could be loaded from {folder}: {error}", "add the model's tokenizer.json"
        ) from error
    # Where the vocabulary's file is missing, transformers may build the class around an empty one.
    if not set(loaded.encode("a 1", add_special_tokens=False)) - {loaded.unk_token_id}:
        raise ModelLoadError(
            f"no tokenizer could be loaded from {folder}: its vocabulary is not there", "add the model's tokenizer.json"
        )
    own_eos = [] if loaded.eos_token_id is None else [loaded.eos_token_id]
    eos_token_ids = tuple(dict.fromkeys([*own_eos, *read_generation_eos(folder)]))
    special_tokens = {name: str(token) for name, token in loaded.special_tokens_map.items()}
    templates = loaded.chat_template or {}
    chat_templates = {"default": templates} if isinstance(templates, str) else dict(templates)
    configuration = published_configuration(
        {"tokenizer_class": type(loaded).__name__} | loaded.init_kwargs | special_tokens
    )
    if loaded.is_fast:
        return HuggingFaceTokenizer(
            loaded.backend_tokenizer,
            special_tokens=special_tokens,
            eos_token_ids=eos_token_ids,
            chat_templates=chat_templates,
            configuration=configuration,
        )
    return PythonTokenizer(
        loaded,
        special_tokens=special_tokens,
        eos_token_ids=eos_token_ids,
        chat_templates=chat_templates,
        configuration=configuration,
    )


class PythonTokenizer:
    """`api.Tokenizer` over a transformers tokenizer written in Python, not thread-safe: one call at a time."""

    def __init__(
        self,
        loaded: Any,
        *,
        special_tokens: dict[str, str],
        eos_token_ids: tuple[int, ...],
        chat_templates: dict[str, str],
        configuration: Mapping[str, Any],
    ) -> None:
        self._loaded = loaded
        self._lock = Lock()
        self.special_tokens = special_tokens
        self.eos_token_ids = eos_token_ids
        self.chat_templates = chat_templates
        self.configuration = configuration
        self.vocab_size = len(loaded)
        self.spelling = None
        self.max_token_chars = None

    @property
    def chat_template(self) -> str | None:
        return self.chat_templates.get("default")

    def vocabulary_entry(self, token_id: int) -> str | None:
        with self._lock:
            return str(self._loaded.convert_ids_to_tokens(token_id)) if token_id < self.vocab_size else None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        with self._lock:
            return list(self._loaded.encode(text, add_special_tokens=add_special_tokens))

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        return [self.encode(text, add_special_tokens=add_special_tokens) for text in texts]

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        with self._lock:
            found = self._loaded(first, second, return_token_type_ids=True, return_attention_mask=False)
            return list(found["input_ids"]), list(found["token_type_ids"])

    def num_special_tokens(self, *, is_pair: bool) -> int:
        with self._lock:
            return int(self._loaded.num_special_tokens_to_add(pair=is_pair))

    def encode_with_starts(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[int]]:
        """As the text of the tokens tells: such tokenizers keep no record of places."""
        token_ids = self.encode(text, add_special_tokens=add_special_tokens)
        with self._lock:
            special_ids = set(self._loaded.all_special_ids)
        detokenizer = Detokenizer(self)
        starts, end = [], 0
        for token_id in token_ids:
            starts.append(end)
            piece = self.token_text(token_id) if token_id in special_ids else detokenizer.append(token_id)
            if token_id not in special_ids or text.startswith(piece, end):
                end = min(end + len(piece), len(text))
        return token_ids, starts

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        with self._lock:
            return str(
                self._loaded.decode(
                    list(token_ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
                )
            )

    def token_text(self, token_id: int) -> str:
        return self.decode([token_id])

    def token_bytes(self, token_id: int) -> bytes:
        """As far as the tokenizer tells: a token that is part of a character is a replacement character."""
        return self.decode([token_id]).encode("utf-8")
