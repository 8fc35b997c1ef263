"""What a person sees: plain lines without a terminal, a command that can be copied, two lines for a problem."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from specserve.engine.api import ModelInfo
from specserve.handlers.console import Console, Shown, curl_example, model_rows

MODEL = ModelInfo(
    path="/models/m",
    architecture="LlamaForCausalLM",
    device="cpu",
    dtype="bfloat16",
    attention_backend="cpu",
    vocab_size=100,
    max_model_len=1000,
    eos_token_ids=(2,),
    block_size=10,
    num_blocks=251,
    num_parameters=1_234_567_890,
    notes=("float16 weights run in float32",),
)


def banner(*models: Shown, is_public: bool = False) -> None:
    Console().ready(models, url="http://h:1", needs_key=False, is_public=is_public, took_s=1.23)


def test_the_banner_names_model_device_number_type_capacity_and_url(capsys: pytest.CaptureFixture[str]) -> None:
    banner(Shown("mine", MODEL))
    text = capsys.readouterr().out
    for part in (
        "mine",
        "LlamaForCausalLM",
        "1.23 B",
        "cpu, bfloat16",
        "2500 tokens",
        "2.5 sequences",
        "http://h:1/v1",
    ):
        assert part in text


def test_the_example_is_a_command_with_a_valid_body_whatever_the_name() -> None:
    words = shlex.split(curl_example('it\'s a "model"', "http://h:1", needs_key=True))
    assert words[:2] == ["curl", "http://h:1/v1/chat/completions"]
    assert json.loads(words[-1])["model"] == 'it\'s a "model"'
    assert any(word.startswith("Authorization: Bearer") for word in words)


@pytest.mark.parametrize(
    ("task", "path"), [("embed", "/v1/embeddings"), ("classify", "/classify"), ("token_embed", "/pooling")]
)
def test_models_that_generate_nothing_say_what_they_do(task: str, path: str) -> None:
    encoder = replace(MODEL, tasks=(task,), num_blocks=1, max_model_len=512)
    rows = dict(model_rows(Shown("mine", encoder)))
    assert rows["tasks"] == f"{task}; texts of up to 512 tokens"
    assert "KV cache" not in rows
    words = shlex.split(curl_example("mine", "http://h:1", needs_key=False, task=task))
    assert words[1] == f"http://h:1{path}"


def test_without_a_terminal_the_banner_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    banner(Shown("mine", MODEL, answers="reasoning as qwen3"), is_public=True)
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "float16 weights run in float32" in output
    assert "answers   reasoning as qwen3" in output
    assert "warning   other machines can reach this server and no --api-key is set" in output
    assert output.splitlines()[-1].startswith("curl ")


def test_of_several_models_each_is_shown_with_a_request_to_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = replace(MODEL, architecture="BertModel", tasks=("embed",), num_blocks=1, notes=())
    banner(Shown("chat", MODEL, template="the chat template hides tools"), Shown("embed", encoder))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(")[0].split() for line in lines if line.startswith("model")] == [
        ["model", "chat"],
        ["model", "embed"],
    ]
    assert "note      chat: float16 weights run in float32" in lines
    assert "template  chat: the chat template hides tools" in lines
    assert [line.startswith("URL") for line in lines].count(True) == 1
    assert [shlex.split(line)[1] for line in lines if line.startswith("curl")] == [
        "http://h:1/v1/chat/completions",
        "http://h:1/v1/embeddings",
    ]


def test_progress_without_a_terminal_is_an_occasional_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    console = Console()
    for step in range(100):
        now = step / 10
        console.loading("reading weights", step / 100)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 4
    assert all("reading weights" in line and "%" in line for line in lines)


def test_a_problem_is_two_lines_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    Console().problem("a cause\nin pieces", "a way\nout")
    assert capsys.readouterr().err == "serve: a cause in pieces\na way out\n"


def test_a_reader_that_leaves_changes_neither_the_course_nor_the_exit_code() -> None:
    script = (
        "import sys\nfrom specserve.handlers.console import Console\nconsole = Console()\nsys.stdin.readline()\n"
        "console.line('one')\nconsole.line('two')\nconsole.problem('cause', 'way out')\nsys.exit(7)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.wait() == 7
