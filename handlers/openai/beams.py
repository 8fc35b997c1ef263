"""What the fields of a request mean for a beam search, for both generation endpoints."""

from __future__ import annotations

from specserve.engine.api import ModelInfo
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.beam_search import BeamSettings
from specserve.handlers.openai.reply import Request

MAX_WIDTH = 64
"""Each step asks for about twice as many candidates of each of as many beams."""
MAX_LENGTH_PENALTY = 20.0
"""As an exponent of the longest answer it is still a number."""
NEUTRAL: tuple[object, ...] = (None, False, 0, [], {})
NOT_WITH_BEAMS = (
    "stop",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "presence_penalty",
    "frequency_penalty",
    "logprob_token_ids",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "repetition_detection",
    "thinking_token_budget",
    "stream",
)
"""Fields that shape a sampled answer token by token, or its text as it comes."""


def beam_settings(body: Request, model: ModelInfo) -> BeamSettings:
    """Raises InvalidParameterCombination or UnsupportedValue for what a search with beams cannot do."""
    for name in NOT_WITH_BEAMS:
        if getattr(body, name, None) not in NEUTRAL:
            raise InvalidParameterCombination(f"{name} does not go with use_beam_search; leave one out", param=name)
    for name, neutral in (("prompt_logprobs", None), ("repetition_penalty", 1)):
        if getattr(body, name) not in (None, neutral):
            raise InvalidParameterCombination(f"{name} does not go with use_beam_search; leave one out", param=name)
    if body.response_format is not None and body.response_format.type != "text":
        raise InvalidParameterCombination(
            "response_format does not go with use_beam_search; ask for text", param="response_format"
        )
    if getattr(body, "tool_choice", None) not in (None, "none", "auto"):
        raise InvalidParameterCombination(
            "a forced tool call does not go with use_beam_search; leave tool_choice out", param="tool_choice"
        )
    num_ends = len({*model.eos_token_ids, *(body.stop_token_ids or ())})
    width, most = body.n or 1, min(MAX_WIDTH, model.vocab_size // (1 + max(1, num_ends)))
    if width > most:
        raise UnsupportedValue(f"n is {width}, beam search takes at most {most} beams", param="n")
    if abs(body.length_penalty) > MAX_LENGTH_PENALTY:
        raise UnsupportedValue(
            f"length_penalty is {body.length_penalty:g}; it goes from -{MAX_LENGTH_PENALTY:g} to "
            f"{MAX_LENGTH_PENALTY:g}",
            param="length_penalty",
        )
    return BeamSettings(width=width, length_penalty=body.length_penalty, early_stopping=bool(body.early_stopping))
