"""From request fields to `SamplingParams`: request value, else the server's default, else the neutral one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.engine.errors import PromptTooLongError, TokenOutOfVocabularyError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.params import SamplingParams
from specserve.engine.thought_limit import ThoughtLimit
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.answer_length import AskedLength, answer_limit
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import MaxTokensPolicy

MAX_BAD_WORD_CHARS, MAX_BAD_WORD_TOKENS = 16384, 1024
"""Of all bad_words together: they are tokenized while others wait, and compared with the answer at every token."""
NEUTRAL = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


@dataclass(slots=True, kw_only=True)
class AskedSampling:
    """What a request of any protocol says about sampling; the defaults are those of a request that is silent."""

    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    logprob_token_ids: Sequence[int] | None = None
    prompt_logprobs: int | None = None
    bad_words: Sequence[str] = ()
    logit_bias: Mapping[str, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True

    @classmethod
    def of(cls, body: ApiModel) -> AskedSampling:
        """The fields of a body that are called so; what a protocol does not have keeps its default."""
        values = vars(body)
        return cls(**{name: values[name] for name in common_names(type(body))})


@cache
def common_names(schema: type[ApiModel]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(AskedSampling) if one.name in schema.model_fields)


def room_for_answer(num_prompt_tokens: int, model: ModelInfo, *, param: str, is_answered: bool = True) -> int:
    """Tokens left of the context after the prompt. Raises PromptTooLongError when an answer finds none."""
    room = model.max_model_len - num_prompt_tokens
    if room < is_answered:
        raise PromptTooLongError(num_prompt_tokens, model.max_model_len, param=param, is_answered=is_answered)
    return room


def num_alternatives(asked: int | None, max_logprobs: int, model: ModelInfo, *, param: str) -> int | None:
    """How many alternatives per token a request gets: -1 asks for the most allowed; None stays None.

    `max_logprobs` is the server's limit, -1 for the whole vocabulary. Raises UnsupportedValue.
    """
    most = model.vocab_size if max_logprobs == -1 else min(max_logprobs, model.vocab_size)
    if asked is None or asked == -1:
        return None if asked is None else most
    if asked > most and max_logprobs != -1 and asked > max_logprobs:
        raise UnsupportedValue(
            f"{param} is {asked}, which is greater than max allowed: {max_logprobs} (--max-logprobs); ask for fewer",
            param=param,
        )
    return min(asked, most)


def check_vocabulary(token_ids: Sequence[int], model: ModelInfo, *, param: str) -> None:
    """Raises TokenOutOfVocabularyError."""
    if token_ids and not 0 <= min(token_ids) <= max(token_ids) < model.vocab_size:
        wrong = next(token_id for token_id in token_ids if not 0 <= token_id < model.vocab_size)
        raise TokenOutOfVocabularyError(
            f"token id {wrong} in {param} is not in the vocabulary; ids go from 0 to {model.vocab_size - 1}",
            param=param,
        )


def prompt_alternatives(asked: AskedSampling, max_logprobs: int, model: ModelInfo) -> int | None:
    """`prompt_logprobs` as a number. Raises InvalidParameterCombination or UnsupportedValue."""
    if asked.prompt_logprobs and asked.stream:
        raise InvalidParameterCombination(
            f"prompt_logprobs {asked.prompt_logprobs} does not go with stream: true; ask for the whole answer",
            param="prompt_logprobs",
        )
    return num_alternatives(asked.prompt_logprobs, max_logprobs, model, param="prompt_logprobs")


def logprob_token_ids(asked: AskedSampling, logprobs: int | None, model: ModelInfo) -> tuple[int, ...]:
    """Raises InvalidParameterCombination or TokenOutOfVocabularyError."""
    token_ids = tuple(asked.logprob_token_ids or ())
    check_vocabulary(token_ids, model, param="logprob_token_ids")
    if token_ids and logprobs is None:
        raise InvalidParameterCombination(
            "logprob_token_ids needs logprobs; turn them on or leave it out", param="logprob_token_ids"
        )
    if token_ids and logprobs and logprobs != len(token_ids):
        raise InvalidParameterCombination(
            f"logprob_token_ids names {len(token_ids)} tokens, but log probabilities of {logprobs} are asked for; "
            "make the numbers equal or leave one out",
            param="logprob_token_ids",
        )
    return token_ids


def bad_words_token_ids(words: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Every word as it reads at the beginning of a text and, with a space before it, inside of one.

    Raises UnsupportedValue when a word has no tokens or all together are too much.
    """
    num_chars = sum(map(len, words))
    if num_chars > MAX_BAD_WORD_CHARS:
        raise UnsupportedValue(
            f"bad_words have {num_chars} characters, the limit is {MAX_BAD_WORD_CHARS}; send fewer or shorter ones",
            param="bad_words",
        )
    found: dict[tuple[int, ...], None] = {}
    for word in words:
        bare = word.lstrip(" ")
        forms = [tuple(tokenizer.encode(form, add_special_tokens=False)) for form in (bare, f" {bare}") if form]
        if not any(forms):
            raise UnsupportedValue(f"{word[:80]!r} in bad_words has no tokens; leave it out", param="bad_words")
        found |= dict.fromkeys(form for form in forms if form)
    num_tokens = sum(map(len, found))
    if num_tokens > MAX_BAD_WORD_TOKENS:
        raise UnsupportedValue(
            f"bad_words have {num_tokens} tokens, the limit is {MAX_BAD_WORD_TOKENS}, counting each word with and "
            "without a space before it; send fewer or shorter ones",
            param="bad_words",
        )
    return tuple(found)


def sampling_params(
    asked: AskedSampling,
    defaults: GenerationDefaults,
    model: ModelInfo,
    *,
    room: int,
    length: AskedLength,
    logprobs: int | None,
    tokenizer: Tokenizer,
    max_logprobs: int,
    policy: MaxTokensPolicy = "clamp",
    grammar: GrammarSpec | None = None,
    keeps_marks: bool = False,
    thought: ThoughtLimit | None = None,
) -> SamplingParams:
    """A request that is silent about its length gets the server's default, and without one all the `room` there is.

    `max_logprobs` is the server's limit; `grammar` has passed its check; `keeps_marks`: special tokens are needed in
    the text, whatever was asked for. Raises InvalidParameterCombination,
    UnsupportedValue, TokenOutOfVocabularyError, and what `answer_limit` does.
    """
    wanted = length.tokens if length.tokens is not None else length.default or defaults.max_new_tokens or room
    if asked.min_tokens > wanted:
        raise InvalidParameterCombination(
            f"min_tokens is {asked.min_tokens}, but {length.param} is {wanted}; lower the first or raise the second",
            param="min_tokens",
        )
    effective = min(wanted, answer_limit(length, defaults, model, room=room, policy=policy))
    stop_token_ids: tuple[int, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    logit_bias: dict[int, float] = {}
    if asked.stop_token_ids:
        stop_token_ids = tuple(asked.stop_token_ids)
        check_vocabulary(stop_token_ids, model, param="stop_token_ids")
    if asked.allowed_token_ids:
        allowed_token_ids = tuple(asked.allowed_token_ids)
        check_vocabulary(allowed_token_ids, model, param="allowed_token_ids")
    if asked.logit_bias:
        logit_bias = {int(token_id): bias for token_id, bias in asked.logit_bias.items()}
        check_vocabulary(list(logit_bias), model, param="logit_bias")

    chosen: dict[str, Any] = {}
    for name, neutral in NEUTRAL.items():
        if (value := getattr(asked, name)) is None and (value := getattr(defaults, name)) is None:
            value = neutral
        chosen[name] = value
    chosen["top_k"] = max(chosen["top_k"], 0)
    stop = asked.stop
    return SamplingParams(
        max_tokens=effective,
        **chosen,
        seed=None if asked.seed == -1 else asked.seed,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=stop_token_ids,
        include_stop_str_in_output=asked.include_stop_str_in_output,
        ignore_eos=asked.ignore_eos,
        min_tokens=min(asked.min_tokens, effective),
        logprobs=logprobs,
        logprob_token_ids=logprob_token_ids(asked, logprobs, model) if asked.logprob_token_ids else (),
        prompt_logprobs=None if asked.prompt_logprobs is None else prompt_alternatives(asked, max_logprobs, model),
        bad_words_token_ids=bad_words_token_ids(asked.bad_words, tokenizer) if asked.bad_words else (),
        logit_bias=logit_bias,
        allowed_token_ids=allowed_token_ids,
        skip_special_tokens=asked.skip_special_tokens and not keeps_marks,
        spaces_between_special_tokens=asked.spaces_between_special_tokens,
        grammar=grammar,
        thought=thought,
    )
