"""From what a chat request asks for, in no protocol's words, to what the engine is asked for.

Nothing is sent before all of it is done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Literal

from specserve.engine.api import Engine, GenerationRequest, Tokenizer
from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated.errors import InvalidPrompt
from specserve.handlers.answer_length import AskedLength
from specserve.handlers.chat.answer_formats import AnswerFormats, FormatChoice
from specserve.handlers.chat.answer_grammar import AnswerShape
from specserve.handlers.chat.answer_pieces import AnswerParser
from specserve.handlers.chat.constraint import Constraint, tell_unkept, tell_widened
from specserve.handlers.chat.conversation import Conversation, text_of
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.chat.reasoning_formats.think import Opening
from specserve.handlers.chat.template import CallStyle
from specserve.handlers.chat.thought_limits import thought_limit
from specserve.handlers.chat.tool_constraints import ToolUse, checked_calls
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ServedModel
from specserve.handlers.sampling import AskedSampling, room_for_answer, sampling_params
from specserve.handlers.text_work import check_text_length, text_work
from specserve.handlers.truncation import Truncation


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
class ChatRequest:
    """A body of any chat protocol, read. `param` is the field that has the conversation, for errors about the prompt.

    chat_template   the request's own, which the server may render
    use             what the answer may call; the tools the model sees are in the conversation
    constraint      of the answer's text; an answer that must be a call has none
    num_logprobs    alternatives per token, None for no log probabilities at all
    truncation      None: a prompt that is too long is refused
    max_thought     tokens of reasoning at most; None or -1 for any number. `thought_param` asked for it, and is refused
                    where no reasoning is known; None: the number is a wish
    """

    served: ServedModel
    conversation: Conversation
    sampling: AskedSampling
    length: AskedLength
    param: str = "messages"
    chat_template: str | None = None
    use: ToolUse = field(default_factory=ToolUse)
    constraint: Constraint | None = None
    num_logprobs: int | None = None
    add_special_tokens: bool = False
    truncation: Truncation | None = None
    max_thought: int | None = None
    thought_param: str | None = "thinking_token_budget"
    cache_salt: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedChat:
    """A request that has passed every check.

    `continues_text`: answers go on in the text of the last message. `short_ids`: the template wants ids of calls so.
    `parser` makes what takes one answer apart; None when all of its text is content.
    `marks`: what is found in every answer that is more than content; None where that is not known.
    """

    served: ServedModel
    request: GenerationRequest
    use: ToolUse
    prompt_text: str
    prompt: list[int]
    continues_text: bool
    short_ids: bool
    parser: Callable[[], AnswerParser] | None = None
    marks: re.Pattern[str] | None = None


class ChatPreparation:
    def __init__(
        self, prompts: Prompts, limits: Limits, grammars: GrammarChecker, options: ChatOptions | None = None
    ) -> None:
        self.prompts, self.limits = prompts, limits
        self.options = options or ChatOptions()
        self._grammars = grammars

    async def prepare(self, asked: ChatRequest, context: RequestContext) -> PreparedChat:
        """Raises what the contract lists as refusals."""
        engine, conversation, use = asked.served.engine, asked.conversation, asked.use
        style = CallStyle()
        if use.mode != "none":
            style = self.prompts.call_style(engine.tokenizer, asked.chat_template)
        if use.is_forced:
            use = replace(use, arguments_key=style.arguments_key)
        grammars = self._grammars.of(engine)
        constraint = await self._constraint(asked.constraint, use, context, grammars)
        text, prompt = await self.prompt(asked, context)
        source = self.prompts.source(engine.tokenizer, with_tools=bool(conversation.tools))
        formats = self.options.formats.for_template(source or "")
        offered = conversation.tools if use.mode == "auto" else []
        continued = text_of(conversation.messages[-1]) if conversation.continue_final_message else ""
        opening = formats.opening(text, continued)
        shape = AnswerShape(
            formats=formats,
            opening=self._opening(asked, formats, opening),
            use=use,
            reads_calls=bool(offered),
            constraint=constraint,
        )
        grammar, unkept = await shape.grammar(grammars)
        tell_unkept(unkept, context)
        parser = None
        if grammar is None or grammar is not constraint:  # a constraint that is the whole answer has no marks in it
            parser = formats.parser(offered, text, continued)
        keeps_marks = parser is not None and (bool(offered) or has_special_marks(formats, engine.tokenizer))
        thought = None
        if asked.max_thought is not None and asked.max_thought >= 0:
            tokenizer, param = engine.tokenizer, asked.thought_param
            thought = thought_limit(asked.max_thought, formats, opening, tokenizer, param=param)
        params = sampling_params(
            asked.sampling,
            asked.served.defaults,
            engine.model,
            room=room_for_answer(len(prompt), engine.model, param=asked.param),
            length=asked.length,
            logprobs=asked.num_logprobs,
            tokenizer=engine.tokenizer,
            max_logprobs=self.limits.max_logprobs,
            policy=self.limits.max_tokens_policy,
            grammar=grammar,
            keeps_marks=keeps_marks,
            thought=thought,
        )
        request = GenerationRequest(
            request_id=token_hex(16),  # unique, whatever the client calls it
            prompt_token_ids=prompt,
            params=params,
            cache_salt=asked.cache_salt,
            priority=asked.priority,
            continues_prompt=conversation.continue_final_message,
        )
        return PreparedChat(
            served=asked.served,
            request=request,
            use=use,
            prompt_text=text,
            prompt=prompt,
            continues_text=conversation.continue_final_message,
            short_ids=style.short_ids,
            parser=parser,
            marks=None if parser is None else formats.beginnings(opening, with_calls=bool(offered)),
        )

    async def prompt(self, asked: ChatRequest, context: RequestContext) -> tuple[str, list[int]]:
        """What `render` returns and raises, wherever it is to run."""
        if asked.chat_template is None:
            found = await text_work(context, self.render, asked)
        else:  # it runs in a process of its own, which is waited for
            found = await asyncio.to_thread(self.render, asked)
        if asked.truncation is not None:
            asked.truncation.report(context.response_headers)
        return found

    async def _constraint(
        self, constraint: Constraint | None, use: ToolUse, context: RequestContext, grammars: GrammarChecker
    ) -> GrammarSpec | None:
        """The constraint of the text. One on a message's content says nothing of a call, and a forced call is one."""
        if not use.is_forced:
            return None if constraint is None else await constraint.checked(grammars, context)
        grammar, widened = await checked_calls(use, grammars)
        tell_widened(widened, context)
        return grammar

    def _opening(self, asked: ChatRequest, formats: AnswerFormats, opening: Opening | None) -> Opening | None:
        """What a grammar may expect of the reasoning: none, where the template opens it for those who ask only."""
        think = formats.reasoning.think if formats.reasoning is not None else None
        if opening != "none" or think is None or think.always_thinks or asked.chat_template is not None:
            return opening
        tokenizer, with_tools = asked.served.engine.tokenizer, bool(asked.conversation.tools)
        on_demand = self.prompts.opens_thought_on_demand(tokenizer, think.starts, with_tools=with_tools)
        return "closed" if on_demand else opening

    def render(self, asked: ChatRequest, *, is_limited: bool = True) -> tuple[str, list[int]]:
        """Template and tokenizer; may run in a worker thread. The text of a prompt that was cut is that of its tokens.

        Raises InvalidPrompt or, where the length `is_limited`, ContextLengthExceeded for a text that cannot fit.
        """
        engine: Engine = asked.served.engine
        text = self.prompts.text(engine.tokenizer, asked.conversation, asked.chat_template)
        truncation = asked.truncation
        if is_limited and (truncation is None or truncation.limit is None):
            check_text_length(text, engine.tokenizer, engine.model, param=asked.param)
        whole = engine.tokenizer.encode(text, add_special_tokens=asked.add_special_tokens)
        if not whole:
            raise InvalidPrompt(f"these {asked.param} give an empty prompt", param=asked.param)
        token_ids = whole if truncation is None else truncation.cut(whole)
        return text if len(token_ids) == len(whole) else engine.tokenizer.decode(token_ids), token_ids


def has_special_marks(formats: AnswerFormats, tokenizer: Tokenizer) -> bool:
    """Whether marks of reasoning would vanish from the text with the special tokens."""
    if not formats.marks or tokenizer.spelling is None:
        return True
    tokens = [tokenizer.encode(mark, add_special_tokens=False) for mark in formats.marks]
    return any(not tokenizer.spelling.special_ids.isdisjoint(token_ids) for token_ids in tokens)
