"""The door of the engine: what handlers may ask and what they get back. Token ids in, text and ids or vectors out.

Knows nothing of HTTP, wire types or chat.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specserve.engine.params import PoolingParams, SamplingParams
from specserve.engine.stats import EngineStats

NO_ADAPTER = 0
NO_TOKEN = -1
"""Stands in `prompt_token_ids` for a position that is given as an embedding."""


GENERATE = "generate"
"""In `ModelInfo.tasks`: the model continues texts."""


class FinishReason(StrEnum):
    """Why a sequence ended. Handlers add their own reasons, such as tool calls."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithm of a token's probability under the raw distribution (before penalties and temperature).

    `rank` is 1 for the most likely token.
    """

    token_id: int
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One position: the token that stands there, sampled or given by the prompt, and its alternatives.

    `top` are the most likely tokens, best first, or those of `logprob_token_ids` in their own order.
    """

    sampled: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One sequence to generate.

    Siblings (`n` > 1) are requests with the same `parent_id` and prompt, told apart by `index`; they share the
    prompt's KV blocks. `cache_salt` separates prefix-cache namespaces. Lower `priority` runs earlier where the
    engine schedules by priority.

    `continues_prompt`: the text goes on in the prompt's, as a completion does, and is no text of its own, as an
    answer in a chat is. It then keeps a space at its beginning and completes a character the prompt began.

    `prompt_embeds` replaces the prompt's tokens: a safetensors file with one tensor [tokens, hidden size], as
    `engine.prompt_embeds` checks it. `prompt_token_ids` then hold as many `NO_TOKEN`.

    `adapter_id` is what `Engine.load_adapter` returned, or NO_ADAPTER for the model as it is.
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    params: SamplingParams
    parent_id: str | None = None
    index: int = 0
    cache_salt: str = ""
    priority: int = 0
    prompt_embeds: bytes | None = None
    continues_prompt: bool = False
    adapter_id: int = NO_ADAPTER


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOutput:
    """What one request gained since the last output.

    `text` is the new text; concatenated over all outputs it is the whole answer. It may be empty while a partial
    UTF-8 sequence or a possible stop string is held back. `token_ids` and `logprobs` are those of this output.
    `stop_reason` is the matched stop string or stop token id; None for an end-of-sequence token or a length stop.
    Exactly one output, the last, has a `finish_reason`.

    `prompt_logprobs` come with the first output if they were asked for: one entry per token of the prompt, of
    which the first is None because nothing precedes it.
    """

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingRequest:
    """One text, or one pair of texts, to embed or classify.

    `token_type_ids` tell the segments of a pair apart for models that have such (`ModelInfo.has_token_types`);
    None: all 0. The last `num_unseen_tokens` see all others and are seen by none, not even by themselves: how late
    interaction expands a query. `cache_salt`, `priority` and
    `adapter_id` as in GenerationRequest.
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    params: PoolingParams
    token_type_ids: Sequence[int] | None = None
    num_unseen_tokens: int = 0
    cache_salt: str = ""
    priority: int = 0
    adapter_id: int = NO_ADAPTER


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolingOutput:
    """`data` is float32 and C-contiguous: [D] an embedding, [C] values of classes, [T, D] or [T, C] one row a token."""

    request_id: str
    data: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter that was loaded at the start: its id, its name and the folder it came from."""

    adapter_id: int
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class QueryExpansion:
    """Queries shorter than `num_tokens`, special tokens included, are filled up with this token."""

    token_id: int
    num_tokens: int
    is_seen: bool
    """Whether other tokens see those that fill up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What the API process knows of the loaded model."""

    path: str
    architecture: str
    device: str
    dtype: str
    attention_backend: str
    vocab_size: int
    max_model_len: int
    eos_token_ids: tuple[int, ...]
    block_size: int
    num_blocks: int
    num_parameters: int
    hidden_size: int = 0
    """Width of the rows of `prompt_embeds`."""
    accepts_prompt_embeds: bool = False
    notes: tuple[str, ...] = field(default=())
    """One-line remarks for the start banner, such as a fallback that was taken."""
    is_deterministic: bool = False
    """A request's tokens and logprobs do not depend on anything computed beside it, by a bit."""
    tasks: tuple[str, ...] = (GENERATE,)
    """What the model is for: GENERATE, or values of PoolingTask, the usual one first. A pooling model's `max_model_len`
    counts prompt tokens: none is kept free for an answer."""
    embedding_size: int = 0
    """Length of embeddings; 0 for models that make none."""
    matryoshka_dimensions: tuple[int, ...] | None = None
    """What `PoolingParams.dimensions` may be: None nothing, () anything up to `embedding_size`, else these."""
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of their values."""
    prompts: dict[str, str] = field(default_factory=dict, hash=False)
    """What the authors put before texts, by the name of the purpose, such as query and document."""
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    """How embeddings are compared: cosine, dot, euclidean or manhattan."""
    has_token_types: bool = False
    """Whether `PoolingRequest.token_type_ids` make a difference."""
    is_late_interaction: bool = False
    """Texts are compared by the vectors of their tokens (MaxSim)."""
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    """What a late-interaction model was made for; longer texts are cut by its authors' own code."""
    query_prefix_ids: tuple[int, ...] = ()
    document_prefix_ids: tuple[int, ...] = ()
    """Marks that late-interaction models want behind the first special token."""
    query_expansion: QueryExpansion | None = None
    skipped_document_ids: tuple[int, ...] = ()
    """Tokens of documents whose vectors late interaction does not compare, such as punctuation."""
    is_decoder_reranker: bool = False
    """One class, whose value says how well a document answers a query, both in one prompt that a template wrote."""
    accepts_adapters: bool = False
    adapters: tuple[AdapterInfo, ...] = ()

    @property
    def is_generative(self) -> bool:
        return GENERATE in self.tasks

    @property
    def kv_capacity_tokens(self) -> int:
        """Without block 0, which is never handed out."""
        return self.block_size * (self.num_blocks - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpelling:
    """How tokens join to text when each can be decoded for itself: their `token_bytes` in a row, as UTF-8.

    special_ids          left out when special tokens are skipped
    byte_ids             tokens that stand for one byte each, of which only neighbours join to a character;
                         None if the bytes of any tokens may join (byte-level vocabularies)
    num_stripped_spaces  as many spaces at most are dropped from the beginning of the whole text
    """

    special_ids: frozenset[int]
    byte_ids: frozenset[int] | None
    num_stripped_spaces: int = 0


class Tokenizer(Protocol):
    """Text to ids and back; thread-safe. Implemented over Hugging Face tokenizers in `engine.tokenizer`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids that decode to something; a model's output rows may be more."""

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    @property
    def special_tokens(self) -> dict[str, str]:
        """Named special tokens (`bos_token`, `eos_token`, …) as chat templates want them."""

    @property
    def chat_template(self) -> str | None: ...

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """All of them by name: `default` is the one above, some models have another one for `tool_use`."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What tokenizer_config.json says, special tokens as plain text, without templates and paths of files."""

    def vocabulary_entry(self, token_id: int) -> str | None:
        """The token as the vocabulary writes it (`Ġthe`, `▁the`); None for ids that have none."""

    @property
    def max_token_chars(self) -> int | None:
        """No token stands for more characters of a text; None when that is not known."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def encode_with_starts(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[int]]:
        """What `encode` gives, and where in `text` each token begins, in characters.

        Every character belongs to one token: those that the tokenizer drops to the next, one that is spread over
        several tokens to the last of them. Added special tokens have no length.
        """

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        """What `encode` gives for each of them, more quickly."""

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Both texts with the special tokens that belong around pairs, and the segment of each token (0 or 1)."""

    def num_special_tokens(self, *, is_pair: bool) -> int:
        """How many tokens `encode` adds to a text, or `encode_pair` to two."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...

    def token_text(self, token_id: int) -> str:
        """One token as text, partial UTF-8 shown with replacement characters."""

    def token_bytes(self, token_id: int) -> bytes:
        """The true bytes a token stands for; concatenated they rebuild the text. Empty for unknown ids."""

    @property
    def spelling(self) -> TokenSpelling | None:
        """None when the text of a token depends on its neighbours, so that only `decode` knows it."""


class Engine(Protocol):
    """The asyncio face of an engine. `EngineClient` implements it over a process border; tests use fakes."""

    @property
    def model(self) -> ModelInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        """Start a request; closing the generator aborts it.

        Raises RequestError, OverloadedError or EngineDeadError at the call itself when it can be known, so that
        nothing has been sent yet; EngineDeadError while iterating when the engine stops.
        """

    def pool(self, requests: Sequence[PoolingRequest]) -> Awaitable[list[PoolingOutput]]:
        """Embed or classify texts; the outputs come in the order of the requests, when the last one is there.

        Raises RequestError, OverloadedError or EngineDeadError, from the call or the await; one that fails takes its
        siblings with it. Cancelling the await aborts what is not finished.
        """

    def load_adapter(self, name: str, path: str) -> Awaitable[int]:
        """Load an adapter from a folder of this machine; returns its id, by which requests may ask for it.

        Raises RequestError when the folder is not as it must be or does not fit the model, EngineDeadError.
        """

    def drop_adapter(self, adapter_id: int) -> None:
        """Nobody asks for it any more; requests that compute with it end as they began. From any thread."""

    def stats(self) -> EngineStats: ...

    def check_health(self) -> None:
        """Raise EngineDeadError, with the reason, unless the engine makes progress."""
