"""Templates are rendered as transformers renders them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from transformers import AutoTokenizer

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation, Message
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.chat.template_environment import Environment, to_json
from specserve.handlers.demo import checkpoint_path

CHATML = (Path(checkpoint_path()) / "chat_template.jinja").read_text()
HEADERS = """
{{- bos_token }}
{%- if tools %}{{ "Tools:" }}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{%- endif %}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if documents %}{% for document in documents %}{{ document.title }}: {{ document.text }}{% endfor %}{% endif %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{%- endif %}
"""
ALTERNATING = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate user and assistant') }}
{% endif %}
{% if message['role'] == 'user' %}
    {{ '[INST] ' + message['content'] + ' [/INST]' }}
{% else %}
    {% generation %}{{ message['content'] + eos_token }}{% endgeneration %}
{% endif %}
{% if loop.last %}{% break %}{% endif %}
{% endfor %}"""
PARTS = """{% for message in messages %}<{{ message.role }}>
{%- for part in message.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}{% endfor %}
{%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "How's the weather <now> & später?",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
QUESTION: Message = {"role": "user", "content": 'What\'s <up> & "ok"?\n'}
TURNS: list[Message] = [QUESTION, {"role": "assistant", "content": "  Nothing much.  "}, QUESTION]
CALLS: list[Message] = [
    {"role": "system", "content": "Be brief."},
    QUESTION,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich"}}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
]


@pytest.fixture(scope="module")
def oracle() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_path())
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def rendered(source: str, conversation: Conversation) -> str:
    return ChatTemplate(source, SPECIAL).render(conversation)


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("documents", [[], [{"title": "T", "text": "<x>"}]], ids=["", "documents"])
@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["", "tools"])
@pytest.mark.parametrize(
    ("source", "messages"),
    [(CHATML, TURNS), (CHATML, CALLS), (HEADERS, TURNS), (ALTERNATING, TURNS)],
    ids=["chatml", "chatml calls", "headers", "alternating"],
)
def test_a_conversation_reads_as_transformers_writes_it(
    oracle: Any,
    source: str,
    messages: list[Message],
    tools: list[Any],
    documents: list[Any],
    add_generation_prompt: bool,
) -> None:
    expected = oracle.apply_chat_template(
        messages,
        chat_template=source,
        tools=tools or None,
        documents=documents or None,
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
    )
    conversation = Conversation(
        messages=messages, tools=tools, documents=documents, add_generation_prompt=add_generation_prompt
    )
    assert rendered(source, conversation) == expected


@pytest.mark.parametrize(
    "content", ["The capital", "end", "assistant", "im", " spaced ", "tail ", "a\n", "<|im_end|>", "[/INST]"]
)
@pytest.mark.parametrize("source", [CHATML, HEADERS, ALTERNATING], ids=["chatml", "headers", "alternating"])
def test_a_continued_message_stays_open_as_in_transformers(oracle: Any, source: str, content: str) -> None:
    messages: list[Message] = [QUESTION, {"role": "assistant", "content": content}]
    expected = oracle.apply_chat_template(
        messages, chat_template=source, continue_final_message=True, add_generation_prompt=False, tokenize=False
    )
    assert rendered(source, Conversation(messages=messages, continue_final_message=True)) == expected


def test_variables_of_the_request_reach_the_template(oracle: Any) -> None:
    conversation = Conversation(messages=[QUESTION], template_kwargs={"enable_thinking": True})
    expected = oracle.apply_chat_template(
        [QUESTION], chat_template=CHATML, add_generation_prompt=True, tokenize=False, enable_thinking=True
    )
    assert expected.endswith("<think>\n")
    assert rendered(CHATML, conversation) == expected


def test_a_template_that_refuses_is_quoted() -> None:
    with pytest.raises(InvalidPrompt, match="roles must alternate") as refused:
        rendered(ALTERNATING, Conversation(messages=[QUESTION, QUESTION]))
    assert refused.value.param == "messages"


def test_a_template_that_fails_is_a_refusal_too() -> None:
    with pytest.raises(InvalidPrompt):
        rendered("{{ messages[0].content + 1 }}", Conversation(messages=[QUESTION]))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ messages[0].__class__.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(InvalidPrompt):
        rendered(source, Conversation(messages=[QUESTION]))


def test_what_is_no_template_is_told_at_once() -> None:
    with pytest.raises(TemplateError):
        ChatTemplate("{% if %}", SPECIAL)


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (HEADERS, parts("a", "b"), "a\nb<|eot|>"),
        (ALTERNATING, parts("a", "b"), "[INST] a\nb [/INST]"),
        (CHATML, parts("a", "b"), "<|im_start|>user\nab<|im_end|>"),
        (PARTS, parts("a", "b"), "<user>[a][b]"),
        (PARTS, "ab", "<user>[ab]"),
    ],
    ids=["joined by a line break", "joined for a list in brackets", "read by a macro", "read as parts", "made a part"],
)
def test_content_comes_in_the_form_the_template_reads(source: str, content: Any, expected: str) -> None:
    conversation = Conversation(messages=[{"role": "user", "content": content}], add_generation_prompt=False)
    assert expected in rendered(source, conversation)


def test_a_continued_message_of_parts_stays_open() -> None:
    messages: list[Message] = [QUESTION, {"role": "assistant", "content": parts("a", "b")}]
    assert rendered(PARTS, Conversation(messages=messages, continue_final_message=True)).endswith("<assistant>[a][b")


def test_developer_messages_become_system_messages_where_the_role_is_unknown() -> None:
    messages: list[Message] = [{"role": "developer", "content": "Be brief."}, QUESTION]
    assert "<|start|>system<|end|>" in rendered(HEADERS, Conversation(messages=messages))
    knowing = HEADERS + "{# developer #}"
    assert "<|start|>developer<|end|>" in rendered(knowing, Conversation(messages=messages))


def test_json_is_not_escaped_for_html() -> None:
    shown = rendered("{{ messages[0].content | tojson }}", Conversation(messages=[QUESTION]))
    assert json.loads(shown) == QUESTION["content"]
    assert "<up> &" in shown


MISTRAL = """{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]
{%- elif m.tool_calls %}{% for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}
{{- call.id }}={{ call.function.arguments | tojson }}{% endfor %}
{%- elif m.role == 'tool' %}({{ m.tool_call_id }}:{{ m.content }})
{%- else %}{{ m.content }}{% endif %}{% endfor %}"""


def test_ids_of_other_servers_are_shortened_for_templates_that_insist_on_short_ones() -> None:
    template = ChatTemplate(MISTRAL, SPECIAL)
    assert template.call_style.short_ids
    assert not ChatTemplate(CHATML, SPECIAL).call_style.short_ids
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    messages: list[Message] = [
        QUESTION,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call | {"id": "call_0123456789"}, call | {"id": "abcdefgh1"}],
        },
        {"role": "tool", "tool_call_id": "call_0123456789", "content": "r"},
        {"role": "tool", "tool_call_id": "abcdefgh1", "content": "s"},
    ]
    text = template.render(Conversation(messages=messages))
    shortened = text[text.index("(") + 1 :][:9]
    assert shortened.isalnum()
    assert text.count(shortened) == 2
    assert "abcdefgh1={}" in text
    assert "(abcdefgh1:s)" in text


def test_the_content_format_can_be_said() -> None:
    assert (ChatTemplate(CHATML, {}).content_format, ChatTemplate(HEADERS, {}).content_format) == ("openai", "string")
    assert ChatTemplate(CHATML, {}, "string").content_format == "string"
    asked = Conversation(messages=[{"role": "user", "content": parts("a", "b")}])
    assert "a\nb" in ChatTemplate(CHATML, {}, "string").render(asked)
    said = Conversation(messages=[{"role": "user", "content": "ab"}], add_generation_prompt=False)
    assert ChatTemplate("{{ messages[0].content | tojson }}", {}, "openai").render(said) == json.dumps(parts("ab")[0:1])


def test_arguments_that_are_no_json_do_not_break_a_template_that_wants_an_object() -> None:
    source = "{% for k, v in messages[1].tool_calls[0].function.arguments.items() %}{{ v }}{% endfor %}"
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{not json"}}
    messages: list[Message] = [QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert rendered(source, Conversation(messages=messages)) == "{not json"


EXPRESSIONS = """value.role value.missing value.missing.deeper value['role'] value.items()|list value.items value.keys
value.get('role') value.__class__ value.__class__.__mro__ value.__len__() value.pop('role') value.clear()
value.update(role=1) value|attr('role') value.tool_calls[0].name value.tool_calls.append(1) value.tool_calls.index
value.content.upper() value.content.format(1) value.content.__add__ value.content.missing messages.0.role
namespace(a=1).a cycler.__init__ value.inner.role value.inner.missing.deeper nothing.role (value.inner.inner).role
(value.inner.missing|default(value)).role""".split()
STRANGE_MESSAGE = {"role": "user", "content": "{0}", "items": "an entry", "tool_calls": [{"name": "f", "get": 1}]}
STRANGE_MESSAGES = [STRANGE_MESSAGE | {"inner": STRANGE_MESSAGE}, STRANGE_MESSAGE]
MACROS = {
    "arguments in order and by name": "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}",
    "too many arguments": "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "an unknown name": "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(c=2) }}",
    "what is left over": "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, c=3) }}",
    "a caller": "{% macro f(a) %}[{{ caller(a) }}]{% endmacro %}{% call(x) f('y') %}{{ x.role }}{{ x }}{% endcall %}",
    "within loops": "{% macro f(m) %}{{ m.role }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
    "calls of themselves": "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "fewer arguments": "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }}{{ f() }}",
    "escaping": "{% autoescape true %}{% macro f(a) %}{{ a }}{% endmacro %}{{ '<' + f('>') }}{% endautoescape %}",
    "attributes of a macro": "{% macro f(a) %}{% endmacro %}{{ f.name }}{{ f.arguments }}{{ f.__func__ }}",
    "what is no macro": "{% set f = messages[0].role %}{{ f() }}",
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_names_mean_what_they_mean_in_jinjas_own_sandbox(expression: str) -> None:
    source = "{% for value in messages %}{{ loop.first }}{{ " + expression + " }}{% endfor %}"
    expected = outcome(ImmutableSandboxedEnvironment(), source)
    environment = Environment()
    assert [outcome(environment, source), outcome(environment, source)] == [expected] * 2, "asked again, it is the same"


LOOPS = """loop.index loop.index0 loop.revindex loop.revindex0 loop.first loop.last loop.length loop.depth loop.depth0
loop.previtem loop.nextitem.role loop.cycle('a','b') loop.changed(value) loop.missing loop.__class__ loop._iterable
loop.first.missing""".split()


@pytest.mark.parametrize("expression", LOOPS)
def test_loops_tell_what_they_tell_in_jinjas_own_sandbox(expression: str) -> None:
    for source in (
        "{% for value in messages %}{{ " + expression + " }};{% endfor %}",
        "{% for value in messages recursive %}{{ loop.index }}{{ " + expression + " }};{% endfor %}",
        "{% set loop = {'first': 1, 'index': [2]} %}{{ " + expression.replace("value", "messages[0]") + " }}",
        "{{ " + expression.replace("value", "messages[0]") + " }}",
    ):
        assert outcome(Environment(), source) == outcome(ImmutableSandboxedEnvironment(), source)


@pytest.mark.parametrize("value", [{"ä": [1, 2.0, 1e30, True, None, '\u2028"<']}, 'a"b\u0000', [], 0.1, 10**30, {1: 2}])
def test_json_is_written_as_by_the_standard_library(value: Any) -> None:
    assert to_json(value) == json.dumps(value, ensure_ascii=False)


def test_values_that_json_cannot_say_are_refused_as_by_the_standard_library() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_json({"role": {1, 2}})


@pytest.mark.parametrize("source", MACROS.values(), ids=MACROS.keys())
def test_macros_take_what_they_take_in_jinjas_own_sandbox(source: str) -> None:
    assert outcome(Environment(), source) == outcome(ImmutableSandboxedEnvironment(), source)


def outcome(environment: SandboxedEnvironment, source: str) -> str:
    try:
        return environment.from_string(source).render(messages=STRANGE_MESSAGES)
    except (TemplateError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


def test_the_key_of_arguments_is_the_one_the_template_writes() -> None:
    assert ChatTemplate(CHATML, SPECIAL).call_style.arguments_key == "arguments"
    assert ChatTemplate(CHATML.replace('"arguments"', '"parameters"'), {}).call_style.arguments_key == "parameters"
    assert ChatTemplate(HEADERS, {}).call_style.arguments_key == "parameters"
