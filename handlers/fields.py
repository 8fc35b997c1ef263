"""No silent parameters: every field of a request is used, accepted without effect (and documented so), or refused.

A test walks the generated schemas, so that a field the contract gains has to be put into one of the three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import UnsupportedParameter


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """Names of top-level request fields. `refused` ones may be sent with their default, null, false or empty.

    `without_effect` says why nothing follows from a field; the reference pages quote it.
    """

    used: frozenset[str]
    without_effect: Mapping[str, str]
    refused: frozenset[str]

    def check(self, body: ApiModel) -> None:
        """Raises UnsupportedParameter naming the first refused field that is set to something."""
        for name in sorted(body.model_fields_set & self.refused):
            value = getattr(body, name)
            if value is None or value is False or value in ([], {}) or value == type(body).model_fields[name].default:
                continue
            raise UnsupportedParameter(f"{name} is not offered by this server yet; leave it out", param=name)


SAMPLING = frozenset(
    """model n stop stream stream_options temperature top_p top_k min_p seed presence_penalty frequency_penalty
    repetition_penalty logit_bias logprobs max_tokens min_tokens stop_token_ids include_stop_str_in_output ignore_eos
    skip_special_tokens spaces_between_special_tokens allowed_token_ids cache_salt request_id priority
    add_special_tokens return_token_ids return_tokens_as_token_ids response_format
    prompt_logprobs logprob_token_ids bad_words
    thinking_token_budget stream_interval use_beam_search length_penalty early_stopping truncate_prompt_tokens
    truncation_side
    structured_outputs guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern""".split()
)
WITHOUT_EFFECT = {
    "user": "end users are not told apart",
    "session_id": "there is one engine, so no session has to be led back to it",
    "guided_decoding_backend": "the server chooses how it constrains the output",
    "mm_payload": "no media are prepared that could be returned",
}
REFUSED = frozenset(
    """watermarking
    logits_processors return_token_offsets kv_transfer_params ec_transfer_params vllm_xargs repetition_detection
    routed_experts_prompt_start return_mm_kwargs""".split()
)

CHAT = FieldPolicy(
    used=SAMPLING
    | frozenset(
        """messages max_completion_tokens top_logprobs tools tool_choice documents chat_template_kwargs
        add_generation_prompt continue_final_message reasoning_effort modalities echo chat_template return_prompt_text
        parallel_tool_calls functions function_call include_reasoning""".split()
    ),
    without_effect=WITHOUT_EFFECT
    | {
        "metadata": "answers are not stored, so there is nothing to attach notes to",
        "store": "answers are not stored",
        "service_tier": "there is one class of service",
        "safety_identifier": "end users are not told apart",
        "prompt_cache_key": "cached prefixes are found by their tokens; cache_salt keeps them apart",
        "prompt_cache_options": "cached prefixes stay until their memory is needed",
        "prompt_cache_retention": "cached prefixes stay until their memory is needed",
        "verbosity": "models served here know no such setting; the prompt can ask for it",
    },
    refused=REFUSED
    | frozenset("""audio moderation prediction web_search_options mm_processor_kwargs media_io_kwargs""".split()),
)
COMPLETION = FieldPolicy(
    used=SAMPLING | frozenset("prompt prompt_embeds echo best_of suffix".split()),
    without_effect=WITHOUT_EFFECT,
    refused=REFUSED,
)
RESPONSE = FieldPolicy(
    used=frozenset(
        """input model instructions previous_response_id store background stream stream_options include metadata
        tools tool_choice parallel_tool_calls max_tool_calls text reasoning top_logprobs max_output_tokens truncation
        temperature top_p top_k min_p seed presence_penalty frequency_penalty repetition_penalty logit_bias stop
        stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens
        spaces_between_special_tokens allowed_token_ids bad_words logprob_token_ids return_tokens_as_token_ids
        truncate_prompt_tokens truncation_side structured_outputs add_special_tokens chat_template
        chat_template_kwargs documents include_reasoning thinking_token_budget cache_salt request_id priority
        enable_response_messages previous_input_messages""".split()
    ),
    without_effect={name: WITHOUT_EFFECT[name] for name in ("user", "session_id", "mm_payload")}
    | {
        "service_tier": "there is one class of service",
        "safety_identifier": "end users are not told apart; the response repeats it",
        "prompt_cache_key": "cached prefixes are found by their tokens; cache_salt keeps them apart",
        "prompt_cache_options": "cached prefixes stay until their memory is needed",
        "prompt_cache_retention": "cached prefixes stay until their memory is needed",
        "length_penalty": "answers are sampled, not searched for",
    },
    refused=REFUSED - {"logits_processors"}
    | frozenset(
        """access_programs context_management conversation image moderation prompt use_beam_search prompt_logprobs
        return_token_ids stream_interval echo add_generation_prompt continue_final_message return_prompt_text
        mm_processor_kwargs media_io_kwargs""".split()
    ),
)
INPUT_TOKENS = FieldPolicy(
    used=frozenset(
        """input model instructions previous_response_id tools tool_choice reasoning truncation add_special_tokens
        chat_template chat_template_kwargs documents""".split()
    ),
    without_effect={
        "parallel_tool_calls": "it changes the answer, not what the model reads",
        "text": "it changes the answer, not what the model reads",
        "include_reasoning": "it changes the answer, not what the model reads",
    },
    refused=frozenset(
        """conversation personality echo add_generation_prompt continue_final_message return_prompt_text
        mm_processor_kwargs media_io_kwargs""".split()
    ),
)
PROMPT_OF_MESSAGES = frozenset(
    """model messages system tools tool_choice thinking output_config output_format chat_template_kwargs
    context_management""".split()
)
MESSAGES_WITHOUT_EFFECT = {
    "cache_control": "every common prefix is cached, wherever it ends",
    "speed": "every answer comes as fast as it can",
    "user_profile_id": "end users are not told apart",
    "workspace_id": "nothing is billed to anyone",
}
MESSAGES = FieldPolicy(
    used=PROMPT_OF_MESSAGES - {"context_management"}
    | frozenset("max_tokens stop_sequences stream temperature top_p top_k cache_salt".split()),
    without_effect=MESSAGES_WITHOUT_EFFECT
    | {
        "context_management": "nothing of a conversation is cleared; the model reads all of it",
        "metadata": "end users are not told apart",
        "service_tier": "there is one class of service",
        "inference_geo": "answers are computed where the server is",
        "diagnostics": "requests are not kept, so there is none to compare with",
    },
    refused=frozenset("container mcp_servers watermarking kv_transfer_params ec_transfer_params vllm_xargs".split()),
)
COUNT_TOKENS = FieldPolicy(
    used=PROMPT_OF_MESSAGES, without_effect=MESSAGES_WITHOUT_EFFECT, refused=frozenset(["mcp_servers"])
)
TOKENIZE = FieldPolicy(
    used=frozenset(
        """model prompt messages add_special_tokens return_token_strs add_generation_prompt continue_final_message
        tools chat_template chat_template_kwargs""".split()
    ),
    without_effect={},
    refused=frozenset("media_io_kwargs mm_processor_kwargs".split()),
)
POOLING_COMMON = frozenset(
    """model truncate_prompt_tokens truncation_side use_activation activation normalize softmax priority request_id
    cache_salt""".split()
)
POOLING_WITHOUT_EFFECT = {
    "user": WITHOUT_EFFECT["user"],
    "padding": "inputs of any length are computed together without filling them up",
}
INPUTS = frozenset(
    """input messages add_special_tokens add_generation_prompt continue_final_message chat_template
    chat_template_kwargs""".split()
)
VECTORS = frozenset("dimensions encoding_format embed_dtype endianness".split())
MEDIA_OPTIONS = frozenset("media_io_kwargs mm_processor_kwargs".split())
PAIRS = frozenset("max_tokens_per_query max_tokens_per_doc instruction chat_template chat_template_kwargs".split())

EMBEDDING = FieldPolicy(
    used=POOLING_COMMON | INPUTS | VECTORS, without_effect=POOLING_WITHOUT_EFFECT, refused=MEDIA_OPTIONS
)
POOLING = FieldPolicy(
    used=POOLING_COMMON | INPUTS | VECTORS | {"task"}, without_effect=POOLING_WITHOUT_EFFECT, refused=MEDIA_OPTIONS
)
CLASSIFY = FieldPolicy(used=POOLING_COMMON | INPUTS, without_effect=POOLING_WITHOUT_EFFECT, refused=MEDIA_OPTIONS)
SCORE = FieldPolicy(
    used=POOLING_COMMON | PAIRS | frozenset("queries documents items data_1 data_2 text_1 text_2".split()),
    without_effect=POOLING_WITHOUT_EFFECT,
    refused=frozenset(["mm_processor_kwargs"]),
)
RERANK = FieldPolicy(
    used=POOLING_COMMON
    | PAIRS
    | frozenset("query documents top_n return_documents rank_fields relevant_spans".split()),
    without_effect=POOLING_WITHOUT_EFFECT | {"max_chunks_per_doc": "documents are read as a whole, never in pieces"},
    refused=frozenset(["mm_processor_kwargs"]),
)
COHERE_EMBED = FieldPolicy(
    used=frozenset(
        "model texts inputs input_type embedding_types output_dimension max_tokens truncate priority".split()
    ),
    without_effect={},
    refused=frozenset(["images"]),
)
DETOKENIZE = FieldPolicy(used=frozenset("model tokens".split()), without_effect={}, refused=frozenset())
LOAD_ADAPTER = FieldPolicy(
    used=frozenset("lora_name lora_path load_inplace base_model_name".split()),
    without_effect={},
    refused=frozenset({"is_3d_lora_weight"}),
)
UNLOAD_ADAPTER = FieldPolicy(
    used=frozenset({"lora_name"}),
    without_effect={"lora_int_id": "adapters are known by their names"},
    refused=frozenset(),
)

POLICIES: Mapping[type[ApiModel], FieldPolicy] = {
    schemas.ChatCompletionRequest: CHAT,
    schemas.CompletionRequest: COMPLETION,
    schemas.ResponseRequest: RESPONSE,
    schemas.InputTokensRequest: INPUT_TOKENS,
    schemas.MessagesRequest: MESSAGES,
    schemas.CountTokensRequest: COUNT_TOKENS,
    schemas.TokenizeRequest: TOKENIZE,
    schemas.DetokenizeRequest: DETOKENIZE,
    schemas.EmbeddingRequest: EMBEDDING,
    schemas.PoolingRequest: POOLING,
    schemas.ClassifyRequest: CLASSIFY,
    schemas.ScoreRequest: SCORE,
    schemas.RerankRequest: RERANK,
    schemas.CohereEmbedRequest: COHERE_EMBED,
    schemas.LoadAdapterRequest: LOAD_ADAPTER,
    schemas.UnloadAdapterRequest: UNLOAD_ADAPTER,
}
"""Every request schema has its policy here."""
