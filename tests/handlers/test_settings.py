"""Settings from command line, environment and file: spelling, precedence, and what is said about mistakes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from specserve.handlers.command_line import EXIT_CODES, parser, read_settings
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.flag_table import FLAGS
from specserve.handlers.flags import UsageError
from specserve.handlers.settings import ServerSettings


def read(*argv: str, **environment: str) -> ServerSettings:
    return read_settings(argv, environment)


def file_with(folder: Path, text: str, name: str = "config.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_every_field_has_a_flag_and_every_flag_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(ServerSettings)}
    assert {flag.name for flag in FLAGS} == fields - {"notices", "models"}


def test_without_anything_the_demo_model_is_served_to_this_machine_only() -> None:
    settings = read()
    assert (settings.model_path, settings.model_names) == (str(checkpoint_path()), ("specserve-demo",))
    assert (settings.host, settings.port, settings.is_public) == ("127.0.0.1", 8000, False)


@pytest.mark.parametrize("argv", [("org/name",), ("--model", "org/name"), ("--model=org/name",)])
def test_the_model_is_positional_or_a_flag_and_gives_its_name(argv: tuple[str, ...]) -> None:
    settings = read(*argv)
    assert (settings.model_path, settings.model_names) == ("org/name", ("org/name",))


def test_embeddings_and_priorities_must_be_asked_for_and_the_whole_vocabulary_may_be() -> None:
    engine = read().engine_config()
    assert (engine.scheduler.policy, engine.enable_prompt_embeds) == ("fcfs", False)
    assert (read().max_logprobs, read("--max-logprobs", "-1").max_logprobs) == (20, -1)


def test_two_different_models_are_refused() -> None:
    with pytest.raises(UsageError, match="two models"):
        read("one", "--model", "two")


def test_every_value_reaches_the_section_that_uses_it() -> None:
    engine = read(
        *("m", "--dtype", "float32", "--max-model-len", "2K", "--seed", "7", "--device", "cpu", "--revision", "r1"),
        *("--attention-backend", "reference", "--enforce-eager", "--trust-remote-code", "--block-size", "32"),
        *("--num-gpu-blocks-override", "99", "--no-enable-prefix-caching", "--max-num-seqs", "4"),
        *("--max-num-batched-tokens", "1k", "--max-num-queued-reqs", "5", "--engine-watchdog", "9"),
        *("--quantization", "INT8", "--kv-cache-dtype", "FP8"),
        *("--num-threads", "3", "--log-level", "DEBUG", "--scheduling-policy", "Priority", "--enable-prompt-embeds"),
    ).engine_config()
    model, cache, scheduler = engine.model, engine.cache, engine.scheduler
    assert (model.path, model.dtype, model.max_model_len, model.seed) == ("m", "float32", 2048, 7)
    assert (model.device, model.revision, model.attention_backend) == ("cpu", "r1", "reference")
    assert (model.enforce_eager, model.trust_remote_code, model.quantization) == (True, True, "int8")
    assert (cache.block_size, cache.num_blocks, cache.memory_bytes, cache.enable_prefix_caching) == (
        32,
        99,
        None,
        False,
    )
    assert cache.dtype == "fp8"
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens, scheduler.max_num_queued) == (4, 1000, 5)
    assert (scheduler.policy, engine.enable_prompt_embeds) == ("priority", True)
    assert (engine.watchdog_s, engine.num_threads, engine.log_level) == (9.0, 3, "debug")
    assert read("--kv-cache-memory-bytes", "2G").engine_config().cache.memory_bytes == 2 * 1024**3


def test_underscores_are_as_good_as_dashes() -> None:
    assert read("--max_model_len=100", "--no-enable_prefix-caching") == read(
        "--max-model-len", "100", "--no-enable-prefix-caching"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("4096", 4096), ("16k", 16_000), ("16K", 16_384), ("25.6k", 25_600), ("1m", 10**6), ("1M", 2**20), ("-1", None)],
)
def test_sizes_have_decimal_and_binary_suffixes(text: str, value: int | None) -> None:
    assert read("--max-model-len", text).max_model_len == value


@pytest.mark.parametrize("text", ["", "k", "1.5K", "12x", "0", "nan", "-5", "infk"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-model-len"):
        read("--max-model-len", text)


def test_lists_follow_one_flag_or_repeat_it() -> None:
    settings = read("m", "--served-model-name", "a", "b", "--api-key", "k1", "--api-key", "k2")
    assert (settings.model_names, settings.api_key) == (("a", "b"), ("k1", "k2"))


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    config = file_with(tmp_path, "port: 1\nseed: 1\nmax-num-seqs: 1\n")
    settings = read("--config", config, "--port", "3", SPECSERVE_PORT="2", SPECSERVE_SEED="2")
    assert (settings.port, settings.seed, settings.max_num_seqs, settings.block_size) == (3, 2, 1, None)


def test_a_file_holds_flags_by_name_in_either_spelling(tmp_path: Path) -> None:
    config = file_with(
        tmp_path,
        'model: org/name\nhost: "0.0.0.0"\nport: 6379\nuvicorn-log-level: "info"\nserved_model_name: [a, b]\n'
        "enable-prefix-caching: false\nmax-model-len: 8k\napi-key: secret\nshutdown-timeout: 1.5\n",
        "config.yml",
    )
    settings = read("--config", config)
    assert (settings.model_path, settings.model_names) == ("org/name", ("a", "b"))
    assert (settings.host, settings.port, settings.uvicorn_log_level) == ("0.0.0.0", 6379, "info")
    assert (settings.enable_prefix_caching, settings.max_model_len) == (False, 8000)
    assert (settings.api_key, settings.shutdown_timeout) == (("secret",), 1.5)
    assert read("mine", f"--config={config}").model_path == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "port"),
        ("port: [1, 2]", "port in"),
        ("port: {a: 1}", "port in"),
        ("port: true", "port in"),
        ("enable-prefix-caching: perhaps", "true or false"),
        ("- port", "list"),
        ("port: 1\n  host: x: y", "line 2"),
        ("block-size: 1\nblock_size: 2", "twice"),
        ("port: 1\nport: 2", "line 2, column 1: port is given twice"),
        ("override-generation-config: {top_k: 1, top_k: 2}", "top_k is given twice"),
        ("config: other.yaml", "unknown key"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read("--config", file_with(tmp_path, text))


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read("--config", file_with(tmp_path, "# nothing yet\n")) == read()


def test_a_config_file_is_yaml_and_given_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="yaml"):
        read("--config", file_with(tmp_path, "port: 1", "config.json"))
    config = file_with(tmp_path, "port: 1")
    with pytest.raises(UsageError, match="2 times"):
        read("--config", config, "--config", config)


def test_keys_come_from_the_environment_too() -> None:
    assert read(VLLM_API_KEY="one").api_key == ("one",)
    assert read(SPECSERVE_API_KEY="two, three", VLLM_API_KEY="one").api_key == ("two", "three")
    assert read("--api-key", "four", VLLM_API_KEY="one").api_key == ("four",)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() -> None:
    assert read(SPECSERVE_PORT="tcp://10.0.0.7:80").port == 8000


def test_switches_come_from_the_environment_as_words() -> None:
    assert read(SPECSERVE_ENFORCE_EAGER="true").enforce_eager
    assert not read(SPECSERVE_ENABLE_PREFIX_CACHING="0").enable_prefix_caching


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max-modellen", "5"], "did you mean --max-model-len"),
        (["--port"], "--port"),
        (["--port", "70000"], "65535"),
        (["--dtype", "int3"], "bfloat16"),
        (["--quantization", "awq"], "must be one of none, int8, int4"),
        (["--kv-cache-dtype", "fp8_e5m2"], "must be one of auto, bfloat16, float16, int8, fp8, fp8_e4m3"),
        (["--shutdown-timeout", "-1"], "seconds"),
        (["--engine-watchdog", "0"], "above 0"),
        (["--api-key", "two words"], "printable ASCII"),
        (["--served-model-name", ""], "empty"),
        (["--max-num-seqs", "64", "--max-num-batched-tokens", "8"], "max_num_batched_tokens is 8"),
        (["--scheduling-policy", "lifo"], "must be one of fcfs, priority"),
        (["--max-logprobs", "-2"], "must be a whole number ≥ -1"),
        (["--num-gpu-blocks-override", "8", "--kv-cache-memory-bytes", "1G"], "keep one"),
        (["--chat-template", "./missing.jinja"], "missing.jinja"),
        (["--generation-config", "./missing"], "missing"),
        (["one", "two"], "two"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_cause_and_one_way_out(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read(*argv)
    assert "\n" not in error.value.cause
    assert "\n" not in error.value.remedy


def test_a_wrong_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--api-key") as error:
        read("--api-key", "hidden words")
    assert "hidden" not in str(error.value)
    with pytest.raises(UsageError, match="api-key in") as error:
        read("--config", file_with(tmp_path, "api-key: {hidden: words}"))
    assert "hidden" not in str(error.value)


def test_a_chat_template_is_a_file_or_a_line(tmp_path: Path) -> None:
    file = file_with(tmp_path, "{{ messages }}", "mine.jinja")
    assert read("--chat-template", file).chat_template == "{{ messages }}"
    assert read("--chat-template", "{% for m in messages %}{% endfor %}").chat_template.startswith("{% for")  # type: ignore[union-attr]


def test_generation_config_is_a_word_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{}")
    assert read("--generation-config", str(tmp_path)).generation_config == str(tmp_path)
    assert read("--generation-config", "vllm").generation_config == "vllm"


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("10.0.0.7", "http://10.0.0.7:8000")],
)
def test_the_url_is_one_that_works_on_this_machine(host: str, url: str) -> None:
    assert read("--host", host).url == url
    assert read("--host", host).is_public


def test_help_names_every_flag_and_exit_code() -> None:
    text = parser().format_help()
    assert all(flag.spelling in text for flag in FLAGS)
    assert all(f"{code:>3}  {meaning}" in text for code, meaning in EXIT_CODES.items())


def test_the_readme_documents_the_same_exit_codes() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(word) for line in section.splitlines() for word in line.partition(" | ")[0].strip("| ").split(", ")
              if word.isdigit()}  # fmt: skip
    assert listed == set(EXIT_CODES)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_end_with_success(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read(flag)
    assert end.value.code == 0
    assert capsys.readouterr().out


def test_template_variables_are_a_json_object_or_a_mapping_in_the_file(tmp_path: Path) -> None:
    wanted = {"enable_thinking": False, "depth": 2}
    assert read("--default-chat-template-kwargs", json.dumps(wanted)).default_chat_template_kwargs == wanted
    file = file_with(tmp_path, "default-chat-template-kwargs:\n  enable_thinking: false\n  depth: 2\n")
    assert read("--config", file).default_chat_template_kwargs == wanted
    for wrong in ("[1]", "{", '{"messages": []}'):
        with pytest.raises(UsageError, match="must"):
            read("--default-chat-template-kwargs", wrong)


def test_formats_of_answers_are_left_to_the_template_or_named() -> None:
    settings = read()
    assert (settings.tool_call_parser, settings.reasoning_parser, settings.reasoning_field) == ("auto", "auto", "both")
    settings = read("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-field", "reasoning")
    assert (settings.enable_auto_tool_choice, settings.tool_call_parser) == (True, "hermes")
    assert settings.reasoning_field == "reasoning"
    assert read("--tool-parser-plugin", "p.py").tool_parser_plugin == "p.py"
    with pytest.raises(UsageError, match="reasoning_content"):
        read("--reasoning-field", "thoughts")


def test_without_a_model_the_demo_chats_and_others_wait_beside_it_to_embed_and_rerank() -> None:
    chat, *others = read_settings(["--max-model-len", "512", "--dtype", "float32", "--num-threads", "2"]).served
    assert (chat.model_names, chat.load_on_first_use, chat.max_model_len) == (("specserve-demo",), False, 512)
    assert [(one.model_names, one.load_on_first_use, one.max_model_len, one.dtype) for one in others] == [
        (("specserve-demo-embedder",), True, None, "auto"),
        (("specserve-demo-reranker",), True, None, "auto"),
    ]
    assert {one.num_threads for one in others} == {2}
    assert len(read_settings(["--task", "embed"]).served) == 1
    assert len(read_settings(["some/model"]).served) == 1
