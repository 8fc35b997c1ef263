"""No silent parameters: every field of a request is used, accepted without effect (and documented so), or refused.

A test walks the generated schemas, so that a field the contract gains has to be put into one of the three.
"""

from __future__ import annotations

from dataclasses import dataclass

from specserve.generated.base import ApiModel
from specserve.generated.errors import UnsupportedParameter


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """Names of top-level request fields. `refused` ones may be sent with their default, null or empty."""

    used: frozenset[str]
    without_effect: frozenset[str]
    refused: frozenset[str]

    def check(self, body: ApiModel) -> None:
        """Raises UnsupportedParameter naming the first refused field that is set to something."""
        for name in sorted(body.model_fields_set & self.refused):
            value = getattr(body, name)
            if value is None or value in ([], {}) or value == type(body).model_fields[name].default:
                continue
            raise UnsupportedParameter(f"{name} is not offered by this server yet; leave it out", param=name)


SAMPLING = frozenset(
    """model n stop stream stream_options temperature top_p top_k min_p seed presence_penalty frequency_penalty
    repetition_penalty logit_bias logprobs max_tokens min_tokens stop_token_ids include_stop_str_in_output ignore_eos
    skip_special_tokens spaces_between_special_tokens allowed_token_ids cache_salt request_id priority
    add_special_tokens return_token_ids return_tokens_as_token_ids response_format""".split()
)
WITHOUT_EFFECT = frozenset("user session_id length_penalty early_stopping guided_decoding_backend mm_payload".split())
REFUSED = frozenset(
    """use_beam_search truncate_prompt_tokens truncation_side prompt_logprobs logprob_token_ids bad_words watermarking
    structured_outputs guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern
    logits_processors return_token_offsets kv_transfer_params ec_transfer_params vllm_xargs repetition_detection
    thinking_token_budget stream_interval routed_experts_prompt_start return_mm_kwargs""".split()
)

CHAT = FieldPolicy(
    used=SAMPLING
    | frozenset(
        """messages max_completion_tokens top_logprobs tools tool_choice documents chat_template_kwargs
        add_generation_prompt continue_final_message reasoning_effort modalities""".split()
    ),
    without_effect=WITHOUT_EFFECT
    | frozenset(
        """metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention
        verbosity parallel_tool_calls include_reasoning""".split()
    ),
    refused=REFUSED
    | frozenset(
        """audio function_call functions moderation prediction web_search_options echo chat_template
        mm_processor_kwargs media_io_kwargs return_prompt_text""".split()
    ),
)
COMPLETION = FieldPolicy(
    used=SAMPLING | frozenset("prompt echo best_of".split()),
    without_effect=WITHOUT_EFFECT,
    refused=REFUSED | frozenset("suffix prompt_embeds".split()),
)
