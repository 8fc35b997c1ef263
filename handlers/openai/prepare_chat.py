"""From the body of a chat request to what the engine is asked for. Nothing is sent before all of it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from specserve.engine.api import Engine, GenerationRequest, ModelInfo, Tokenizer
from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, InvalidPrompt
from specserve.handlers import fields
from specserve.handlers.chat.answer_formats import AnswerFormats, FormatChoice
from specserve.handlers.chat.answer_pieces import AnswerParser
from specserve.handlers.chat.beam_search import BeamSettings
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.chat.template import CallStyle
from specserve.handlers.chat.tool_constraints import ToolUse, checked_calls
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, ServedModel
from specserve.handlers.openai.beams import beam_settings
from specserve.handlers.openai.constraints import checked_grammar, tell_widened
from specserve.handlers.openai.messages import own_template, to_conversation
from specserve.handlers.openai.reply import Identity, check_common
from specserve.handlers.openai.tools import RequestTools, read_tools
from specserve.handlers.sampling import num_alternatives, room_for_answer, sampling_params
from specserve.handlers.text_work import check_text_length, text_work
from specserve.handlers.truncation import Truncation

OTHER_CONSTRAINTS = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """`response_role` is whose message an answer is. `hides_unused_tools`: not in the prompt with tool_choice none.

    `formats` is how answers are read, `reasoning_field` the name, or both names, under which clients get reasoning.
    """

    response_role: str = "assistant"
    hides_unused_tools: bool = False
    formats: FormatChoice = field(default_factory=FormatChoice)
    reasoning_field: Literal["both", "reasoning", "reasoning_content"] = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedChat:
    """A request that has passed every check. `echo` is what answers begin with.

    `continues_text`: answers go on in the text of the last message. `beams`: they are searched for, not sampled.
    `parser` makes what takes one answer apart; None when all of its text is content.
    """

    served: ServedModel
    identity: Identity
    request: GenerationRequest
    tools: RequestTools
    prompt_text: str
    prompt: list[int]
    role: str
    echo: str
    continues_text: bool
    beams: BeamSettings | None
    short_ids: bool
    has_own_template: bool
    parser: Callable[[], AnswerParser] | None = None
    reasoning_field: Literal["both", "reasoning", "reasoning_content"] = "both"


class ChatPreparation:
    def __init__(
        self,
        directory: ModelDirectory,
        prompts: Prompts,
        limits: Limits,
        grammars: GrammarChecker,
        options: ChatOptions | None = None,
    ) -> None:
        self._directory, self._prompts, self._limits, self._grammars = directory, prompts, limits, grammars
        self._options = options or ChatOptions()

    async def prepare(self, body: schemas.ChatCompletionRequest, context: RequestContext) -> PreparedChat:
        """Raises what the contract lists as refusals."""
        fields.CHAT.check(body)
        check_common(body, body.n or 1, self._limits.max_choices)
        chat_template = own_template(body, self._prompts)
        tools = read_tools(body, hide_unused=self._options.hides_unused_tools)
        conversation = to_conversation(body, tools.shown)
        served = self._directory.resolve(body.model)
        engine = served.engine
        beams = beam_settings(body, engine.model) if body.use_beam_search else None
        if beams is not None and tools.use.is_forced:
            raise InvalidParameterCombination(
                "a forced tool call does not go with use_beam_search; leave one out",
                param="function_call" if tools.is_legacy else "tool_choice",
            )
        style = CallStyle()
        if tools.use.mode != "none":
            style = self._prompts.call_style(engine.tokenizer, chat_template)
        if tools.use.is_forced:
            tools = replace(tools, use=replace(tools.use, arguments_key=style.arguments_key))
        grammar = await self._grammar(body, tools.use, context)
        truncation = Truncation.of(body, engine.model)
        sources = (engine, conversation, chat_template, body.add_special_tokens, truncation)
        if chat_template is None:
            text, prompt = await text_work(context, self._prompt, *sources)
        else:  # it runs in a process of its own, which is waited for
            text, prompt = await asyncio.to_thread(self._prompt, *sources)
        truncation.report(context.response_headers)
        last = conversation.messages[-1]
        role = self._options.response_role if conversation.add_generation_prompt else last["role"]
        parser, keeps_marks = None, False
        if grammar is None:  # what is constrained from its first token on has no marks in it
            source = self._prompts.source(engine.tokenizer, with_tools=bool(tools.shown))
            formats = self._options.formats.for_template(source or "")
            offered = tools.shown if tools.use.mode == "auto" else []
            continued = text_of(last["content"]) if conversation.continue_final_message else ""
            parser = formats.parser(offered, text, continued)
            keeps_marks = parser is not None and (bool(offered) or has_special_marks(formats, engine.tokenizer))
        wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        params = sampling_params(
            body,
            served.defaults,
            engine.model,
            room=room_for_answer(len(prompt), engine.model, param="messages"),
            max_tokens=wanted,
            logprobs=num_logprobs(body, self._limits, engine.model),
            tokenizer=engine.tokenizer,
            max_logprobs=self._limits.max_logprobs,
            policy=self._limits.max_tokens_policy,
            grammar=grammar,
            keeps_marks=keeps_marks,
        )
        identity = Identity.of("chatcmpl", body, context, served)
        request = GenerationRequest(
            request_id=identity.engine_id,
            prompt_token_ids=prompt,
            params=params,
            cache_salt=body.cache_salt or "",
            priority=body.priority,
            continues_prompt=conversation.continue_final_message,
        )
        return PreparedChat(
            served=served,
            identity=identity,
            request=request,
            tools=tools,
            prompt_text=text,
            prompt=prompt,
            role=role,
            echo=text_of(last["content"]) if body.echo and last["role"] == role else "",
            continues_text=conversation.continue_final_message,
            beams=beams,
            has_own_template=chat_template is not None,
            short_ids=style.short_ids,
            parser=parser,
            reasoning_field=self._options.reasoning_field,
        )

    async def _grammar(
        self, body: schemas.ChatCompletionRequest, use: ToolUse, context: RequestContext
    ) -> GrammarSpec | None:
        """The constraint of the answer. A response_format is that of a message's content: a forced call has none."""
        if not use.is_forced:
            return await checked_grammar(body, self._grammars, context)
        for name in OTHER_CONSTRAINTS:
            if getattr(body, name) is not None:
                raise InvalidParameterCombination(
                    f"{name} constrains the answer, but tool_choice asks for a tool call instead; send one of them",
                    param=name,
                )
        grammar, widened = await checked_calls(use, self._grammars)
        tell_widened(widened, context)
        return grammar

    def _prompt(
        self,
        engine: Engine,
        conversation: Conversation,
        chat_template: str | None,
        add_special_tokens: bool,
        truncation: Truncation,
    ) -> tuple[str, list[int]]:
        """Template and tokenizer; may run in a worker thread. The text of a prompt that was cut is that of its tokens.

        Raises InvalidPrompt or ContextLengthExceeded.
        """
        text = self._prompts.text(engine.tokenizer, conversation, chat_template)
        if truncation.limit is None:
            check_text_length(text, engine.tokenizer, engine.model, param="messages")
        whole = engine.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        if not whole:
            raise InvalidPrompt("these messages give an empty prompt", param="messages")
        token_ids = truncation.cut(whole)
        return text if len(token_ids) == len(whole) else engine.tokenizer.decode(token_ids), token_ids


def has_special_marks(formats: AnswerFormats, tokenizer: Tokenizer) -> bool:
    """Whether marks of reasoning would vanish from the text with the special tokens."""
    if not formats.marks or tokenizer.spelling is None:
        return True
    tokens = [tokenizer.encode(mark, add_special_tokens=False) for mark in formats.marks]
    return any(not tokenizer.spelling.special_ids.isdisjoint(token_ids) for token_ids in tokens)


def num_logprobs(body: schemas.ChatCompletionRequest, limits: Limits, model: ModelInfo) -> int | None:
    """Alternatives per token, None for no log probabilities at all."""
    if not body.logprobs:
        if body.top_logprobs:
            raise InvalidParameterCombination("top_logprobs needs logprobs: true", param="top_logprobs")
        return None
    return num_alternatives(body.top_logprobs or 0, limits.max_logprobs, model, param="top_logprobs")


def text_of(content: object) -> str:
    """A message's content as one text, its parts joined as for templates that read no parts."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content if isinstance(content, str) else ""
