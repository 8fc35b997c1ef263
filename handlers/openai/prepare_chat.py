"""From the body of a chat completion to a prepared request: what only this protocol has is read and checked here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specserve.engine.api import ModelInfo
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination
from specserve.handlers import fields
from specserve.handlers.answer_length import AskedLength
from specserve.handlers.chat.beam_search import BeamSettings
from specserve.handlers.chat.conversation import text_of
from specserve.handlers.chat.preparation import ChatPreparation, ChatRequest, PreparedChat
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.beams import beam_settings
from specserve.handlers.openai.constraints import read_constraint
from specserve.handlers.openai.messages import own_template, to_conversation
from specserve.handlers.openai.reply import Identity, check_common
from specserve.handlers.openai.tools import RequestTools, read_tools
from specserve.handlers.sampling import AskedSampling, num_alternatives
from specserve.handlers.truncation import Truncation

OTHER_CONSTRAINTS = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCompletion:
    """A chat completion that has passed every check. `role` is whose message it is, `echo` what it begins with.

    `beams`: the answers are searched for, not sampled.
    """

    chat: PreparedChat
    identity: Identity
    tools: RequestTools
    role: str
    echo: str
    beams: BeamSettings | None
    has_own_template: bool
    reasoning_field: Literal["both", "reasoning", "reasoning_content"] = "both"


class CompletionPreparation:
    def __init__(self, directory: ModelDirectory, chat: ChatPreparation) -> None:
        self._directory, self._chat = directory, chat

    async def prepare(self, body: schemas.ChatCompletionRequest, context: RequestContext) -> PreparedCompletion:
        """Raises what the contract lists as refusals."""
        fields.CHAT.check(body)
        limits, options = self._chat.limits, self._chat.options
        check_common(body, body.n or 1, limits.max_choices)
        chat_template = own_template(body, self._chat.prompts)
        tools = read_tools(body, hide_unused=options.hides_unused_tools)
        conversation = to_conversation(body, tools.shown)
        served = self._directory.generator(body.model)
        model = served.engine.model
        beams = beam_settings(body, model) if body.use_beam_search else None
        if tools.use.is_forced:
            check_forced(body, tools)
        wanted = body.max_completion_tokens
        asked = ChatRequest(
            served=served,
            conversation=conversation,
            chat_template=chat_template,
            use=tools.use,
            constraint=None if tools.use.is_forced else read_constraint(body),
            sampling=AskedSampling.of(body),
            length=AskedLength(body.max_tokens) if wanted is None else AskedLength(wanted, "max_completion_tokens"),
            num_logprobs=num_logprobs(body, limits, model),
            add_special_tokens=body.add_special_tokens,
            truncation=Truncation.of(body.truncate_prompt_tokens, body.truncation_side, model),
            max_thought=body.thinking_token_budget,
            cache_salt=body.cache_salt or "",
            priority=body.priority,
        )
        chat = await self._chat.prepare(asked, context)
        last = conversation.messages[-1]
        role = options.response_role if conversation.add_generation_prompt else last["role"]
        return PreparedCompletion(
            chat=chat,
            identity=Identity.of("chatcmpl", context, served),
            tools=tools,
            role=role,
            echo=text_of(last) if body.echo and last["role"] == role else "",
            beams=beams,
            has_own_template=chat_template is not None,
            reasoning_field=options.reasoning_field,
        )


def check_forced(body: schemas.ChatCompletionRequest, tools: RequestTools) -> None:
    """Raises InvalidParameterCombination for what does not go with an answer that must be a tool call.

    A response_format is that of a message's content, so it is no contradiction.
    """
    if body.use_beam_search:
        raise InvalidParameterCombination(
            "a forced tool call does not go with use_beam_search; leave one out",
            param="function_call" if tools.is_legacy else "tool_choice",
        )
    for name in OTHER_CONSTRAINTS:
        if getattr(body, name) is not None:
            raise InvalidParameterCombination(
                f"{name} constrains the answer, but tool_choice asks for a tool call instead; send one of them",
                param=name,
            )


def num_logprobs(body: schemas.ChatCompletionRequest, limits: Limits, model: ModelInfo) -> int | None:
    """Alternatives per token, None for no log probabilities at all."""
    if not body.logprobs:
        if body.top_logprobs:
            raise InvalidParameterCombination("top_logprobs needs logprobs: true", param="top_logprobs")
        return None
    return num_alternatives(body.top_logprobs or 0, limits.max_logprobs, model, param="top_logprobs")
