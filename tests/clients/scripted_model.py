"""The real application over a model that knows its answers by heart, for suites the demo model is too small for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from demo_server import ALIAS, KEY, MODEL, Server
from fake_engine import TOKENIZER, FakeEngine, app_over
from served_app import port_of

from specserve.engine.api import GenerationRequest
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary

Script = Sequence[tuple[str, list[str]]]
"""A piece of the prompt from its last user message on, and answers, of which the first is said that the grammar of the
request takes, the very first where there is none."""
USER = "<|im_start|>user\n"
OTHERWISE = "The capital of France is Paris."


def call(tool: str, **arguments: Any) -> list[str]:
    """As the demo model writes a call by itself, and as the server has a forced one written: in a list, or alone."""
    written = json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
    return [f"<tool_call>\n{written}\n</tool_call>", f"[{written}]", written]


@dataclass
class Reciter(FakeEngine):
    """Says what the script says, and only what the grammar of the request lets a model say."""

    script: Script = ()
    prompts: list[str] = field(default_factory=list)
    _compiler: GrammarCompiler = field(
        default_factory=lambda: GrammarCompiler(Vocabulary.of(TOKENIZER, TOKENIZER.vocab_size, TOKENIZER.eos_token_ids))
    )

    def __post_init__(self) -> None:
        self.answer = self.recite

    def recite(self, request: GenerationRequest) -> str:
        prompt = TOKENIZER.decode(request.prompt_token_ids, skip_special_tokens=False)
        self.prompts.append(prompt)
        turn = prompt[prompt.rfind(USER) :]
        answers = next((answers for fragment, answers in self.script if fragment in turn), [OTHERWISE])
        if request.params.grammar is None:
            return answers[0]
        start = self._compiler.compile(request.params.grammar)
        for answer in answers:
            matcher, token_ids = start.deep_copy(), TOKENIZER.encode(answer, add_special_tokens=False)
            if matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting():
                return answer
        raise AssertionError(f"none of {answers} is what the request asks for: {request.params.grammar}")


@dataclass(frozen=True)
class ScriptedServer(Server):
    engine: Reciter


@contextmanager
def reciting(script: Script, **options: Any) -> Iterator[ScriptedServer]:
    """`options` are those of `app_over`."""
    engine = Reciter(script=script, max_model_len=options.pop("max_model_len", 8192))
    app = app_over(engine, api_keys=(KEY,), names=(MODEL, ALIAS), **options)
    with port_of(app) as port:
        yield ScriptedServer(f"http://127.0.0.1:{port}", engine)
