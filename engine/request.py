"""One sequence inside the engine: its tokens, its block table and how far it has been computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from specserve.engine.adapter import Adapter
from specserve.engine.api import FinishReason, GenerationRequest, PoolingRequest
from specserve.engine.params import PoolingParams, SamplingParams
from specserve.engine.thought_limit import Thought

if TYPE_CHECKING:
    import llguidance


NOTHING_GENERATED = SamplingParams(max_tokens=0)


class Phase(Enum):
    """Where a request is in its life. `WAITING` also after preemption."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(slots=True, eq=False)
class Request:
    """A request on the engine's side; mutable, owned by the scheduler.

    `token_ids` are the prompt's and then the generated ones. `block_table` maps logical to physical blocks.
    `num_computed_tokens` tokens have their KV in the cache; after a step in which everything known was
    computed, it is `num_tokens - 1` for the token sampled last. A prompt that is given as embeddings has
    `NO_TOKEN` at each of its positions.
    """

    request_id: str
    params: SamplingParams
    token_ids: list[int]
    num_prompt_tokens: int
    parent_id: str | None = None
    index: int = 0
    cache_salt: str = ""
    priority: int = 0
    arrival: int = 0
    phase: Phase = Phase.WAITING
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    hash_root: bytes = b""
    """Where the chain of `block_hashes` begins: one namespace of the prefix cache."""
    num_registered_blocks: int = 0
    """Leading blocks of the table that the prefix cache knows, or holds twins of."""
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens found in the prefix cache when the request first ran; never counts recomputation."""
    num_prompt_logprobs: int = 0
    """Prompt positions whose logprobs have been reported, from the second on: the first has none."""
    num_preemptions: int = 0
    is_ready: bool = True
    """False while the grammar of its answer is being compiled: until then it must not run."""
    matcher: llguidance.LLMatcher | None = None
    """Where a constrained answer stands in its grammar; it has taken in all generated tokens."""
    wants_mask: bool = True
    """Whether the mask of the next step had better be filled ahead; it makes no difference to the answer."""
    num_tests_without_mask: int = 0
    """Tokens that the matcher was asked about since it last filled a mask."""
    thought: Thought | None = None
    """How far an answer with a limit on its thought has come; it has taken in all generated tokens."""
    max_num_tokens: int = 0
    """Prompt and answer together never get longer than this; set by the scheduler."""
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    prompt_embeds: bytes | None = None
    pooling: PoolingParams | None = None
    """What is made of the hidden states, for requests that generate nothing; their `params` ask for 0 tokens."""
    token_type_ids: list[int] | None = None
    adapter: Adapter | None = None
    num_unseen_tokens: int = 0
    needs_all_hidden: bool = False
    """Whether what is made of them depends on the hidden states of all tokens: then none may come from the cache."""

    hidden_chunks: list[Any] = field(default_factory=list)
    """Hidden states of the chunks computed so far, while the runner still needs them."""
    takes_highest: bool = field(init=False)
    """`SamplingParams.takes_highest`, which is looked at in every step."""

    def __post_init__(self) -> None:
        self.takes_highest = self.params.takes_highest

    @classmethod
    def of(cls, wanted: GenerationRequest, arrival: int = 0) -> Request:
        """The scheduler numbers arrivals when the request is added to it."""
        return cls(
            request_id=wanted.request_id,
            params=wanted.params,
            token_ids=list(wanted.prompt_token_ids),
            num_prompt_tokens=len(wanted.prompt_token_ids),
            parent_id=wanted.parent_id,
            index=wanted.index,
            cache_salt=wanted.cache_salt,
            priority=wanted.priority,
            arrival=arrival,
            prompt_embeds=wanted.prompt_embeds,
            thought=None if wanted.params.thought is None else Thought(wanted.params.thought),
        )

    @classmethod
    def to_pool(cls, wanted: PoolingRequest, *, needs_all_hidden: bool) -> Request:
        return cls(
            request_id=wanted.request_id,
            params=NOTHING_GENERATED,
            token_ids=list(wanted.prompt_token_ids),
            num_prompt_tokens=len(wanted.prompt_token_ids),
            cache_salt=wanted.cache_salt,
            priority=wanted.priority,
            pooling=wanted.params,
            token_type_ids=None if wanted.token_type_ids is None else list(wanted.token_type_ids),
            num_unseen_tokens=wanted.num_unseen_tokens,
            needs_all_hidden=needs_all_hidden,
        )

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_generated_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def reports_prompt(self) -> bool:
        """Whether logprobs of its prompt are still to be reported."""
        return self.params.prompt_logprobs is not None and self.num_prompt_logprobs < self.num_prompt_tokens - 1

    @property
    def num_reusable_tokens(self) -> int:
        """How many tokens from the beginning need not be computed if their KV is found.

        Not the last, whose logits choose the next token; not those whose logits are still to be reported, or whose
        hidden states are pooled.
        """
        if self.needs_all_hidden:
            return 0
        return self.num_prompt_logprobs if self.reports_prompt else self.num_tokens - 1

    @property
    def is_finished(self) -> bool:
        return self.phase is Phase.FINISHED
