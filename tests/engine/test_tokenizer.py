"""The tokenizer against transformers' AutoTokenizer on the same folder."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import KINDS, TEXTS, byte_level, vocabulary_and_merges
from transformers import AutoTokenizer, ByT5Tokenizer

from specserve.engine.api import Tokenizer
from specserve.engine.errors import ModelLoadError
from specserve.engine.tokenizer import HuggingFaceTokenizer, load_tokenizer

Pair = tuple[Tokenizer, Any]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_texts_encode_as_in_transformers(pair: Pair, add_special_tokens: bool) -> None:
    ours, theirs = pair
    for text in TEXTS:
        expected = theirs.encode(text, add_special_tokens=add_special_tokens)
        assert ours.encode(text, add_special_tokens=add_special_tokens) == expected


@given(text=st.text(max_size=40))
def test_any_text_encodes_as_in_transformers(pair: Pair, text: str) -> None:
    ours, theirs = pair
    assert ours.encode(text, add_special_tokens=True) == theirs.encode(text)


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_a_batch_encodes_as_its_texts_do(pair: Pair, add_special_tokens: bool) -> None:
    ours, _ = pair
    alone = [ours.encode(text, add_special_tokens=add_special_tokens) for text in TEXTS]
    assert ours.encode_batch(TEXTS, add_special_tokens=add_special_tokens) == alone


def test_pairs_encode_as_in_transformers(pair: Pair) -> None:
    ours, theirs = pair
    for first, second in itertools.pairwise(TEXTS):
        expected = theirs(first, second, return_token_type_ids=True)
        assert ours.encode_pair(first, second) == (expected["input_ids"], expected["token_type_ids"])
    for is_pair in (False, True):
        assert ours.num_special_tokens(is_pair=is_pair) == theirs.num_special_tokens_to_add(pair=is_pair)


@given(data=st.data(), skip_special_tokens=st.booleans())
def test_any_tokens_decode_as_in_transformers(pair: Pair, data: st.DataObject, skip_special_tokens: bool) -> None:
    ours, theirs = pair
    ids = data.draw(st.lists(st.integers(0, len(theirs) + 5), max_size=20))
    assert ours.decode(ids, skip_special_tokens=skip_special_tokens) == theirs.decode(
        ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )


def test_vocabulary_entries_are_those_of_transformers(pair: Pair) -> None:
    ours, theirs = pair
    ids = list(range(len(theirs)))
    assert [ours.vocabulary_entry(token_id) for token_id in ids] == theirs.convert_ids_to_tokens(ids)
    assert ours.vocabulary_entry(len(theirs) + 5) is None


def test_the_configuration_says_what_transformers_reads_from_it(pair: Pair) -> None:
    ours, theirs = pair
    said = ours.configuration
    json.dumps(said)
    assert "chat_template" not in said
    assert not [name for name in said if name.endswith("_file")]
    named = {name: str(token) for name, token in theirs.special_tokens_map.items() if isinstance(token, str)}
    assert {name: said[name] for name in named} == named


def test_names_and_sizes_are_those_of_transformers(pair: Pair) -> None:
    ours, theirs = pair
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.vocab_size == len(theirs)
    assert ours.eos_token_ids == (() if theirs.eos_token_id is None else (theirs.eos_token_id,))
    assert ours.chat_template == theirs.chat_template


def test_the_bytes_of_all_tokens_rebuild_the_text(pair: Pair) -> None:
    ours, _ = pair
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False)
        joined = b"".join(ours.token_bytes(token_id) for token_id in ids).decode("utf-8", "replace")
        assert joined.removesuffix(ours.decode(ids)) in ("", " "), "but for a space that decode drops in front"


def test_partial_characters_have_true_bytes_and_readable_text(pair: Pair) -> None:
    ours, _ = pair
    if ours.spelling is None:
        pytest.skip("this vocabulary has whole characters only")
    ids = ours.encode("👩", add_special_tokens=False)
    pieces = [piece for token_id in ids if (piece := ours.token_bytes(token_id)) != b" "]
    assert len(pieces) > 1
    assert b"".join(pieces).removeprefix(b" ").decode() == "👩"
    assert all("\ufffd" in ours.token_text(token_id) for token_id in ids[-2:])


def test_unknown_ids_stand_for_nothing(pair: Pair) -> None:
    ours, _ = pair
    assert ours.token_bytes(10**6) == b""
    assert ours.decode([10**6]) == ""


def test_threads_may_share_it(pair: Pair) -> None:
    ours, _ = pair
    expected = [ours.encode(text, add_special_tokens=True) for text in TEXTS]
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(lambda: [ours.encode(text, add_special_tokens=True) for text in TEXTS]) for _ in range(50)
        ]
        assert all(job.result() == expected for job in jobs)


def test_tokens_of_the_configuration_are_added_and_skipped_when_special(tmp_path: Path) -> None:
    byte_level(tmp_path)
    size = len(AutoTokenizer.from_pretrained(tmp_path))
    new = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    rewrite(
        tmp_path,
        added_tokens_decoder={
            str(size): {"content": "<tool>", "special": False, **new},
            str(size + 1): {"content": "<hidden>", "special": True, **new},
        },
        bos_token="<begin>",
        image_token="<image>",
        extra_special_tokens=["<extra>"],
    )
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "a<tool>b<hidden>c<begin>d<image>e<extra>f"
    ids = theirs.encode(text)
    assert len(ids) == 11
    assert ours.encode(text, add_special_tokens=True) == ids
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.vocab_size == len(theirs)


def test_special_tokens_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    byte_level(tmp_path)
    rewrite(tmp_path, eos_token=None, pad_token=None)
    whole = {"content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": whole, "bos_token": "<|im_start|>"}))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.special_tokens == theirs.special_tokens_map == {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    assert ours.eos_token_ids == (theirs.eos_token_id,)


@pytest.mark.parametrize("named", [7, [2, 7]])
def test_generation_config_adds_end_tokens(tmp_path: Path, named: int | list[int]) -> None:
    byte_level(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    assert load_tokenizer(tmp_path).eos_token_ids == (2, 7)


def test_a_chat_template_file_replaces_the_configured_one(tmp_path: Path) -> None:
    byte_level(tmp_path)
    rewrite(tmp_path, chat_template="configured")
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert load_tokenizer(tmp_path).chat_template == "from the file"
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == "from the file"


def test_a_chat_template_may_be_configured(tmp_path: Path) -> None:
    byte_level(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    rewrite(tmp_path, chat_template="configured")
    assert load_tokenizer(tmp_path).chat_template == "configured"
    rewrite(tmp_path, chat_template=None)
    assert load_tokenizer(tmp_path).chat_template is None


@pytest.mark.parametrize("as_files", [True, False])
def test_named_chat_templates_keep_their_names(tmp_path: Path, as_files: bool) -> None:
    byte_level(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    if as_files:
        (tmp_path / "chat_template.jinja").write_text("d")
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    else:
        rewrite(
            tmp_path,
            chat_template=[{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}],
        )
    ours = load_tokenizer(tmp_path)
    assert isinstance(ours, HuggingFaceTokenizer)
    assert ours.chat_template == "d"
    assert ours.chat_templates == AutoTokenizer.from_pretrained(tmp_path).chat_template


def test_a_folder_without_tokenizer_json_goes_through_transformers(tmp_path: Path) -> None:
    vocabulary_and_merges(tmp_path)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.eos_token_ids == (theirs.eos_token_id,)
    assert ours.spelling is not None
    for text in TEXTS:
        assert ours.encode(text, add_special_tokens=True) == theirs.encode(text)


def test_a_tokenizer_written_in_python_tells_where_its_tokens_begin(tmp_path: Path) -> None:
    ByT5Tokenizer(extra_ids=0).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text = "hi x</s>y"
    token_ids, starts = tokenizer.encode_with_starts(text, add_special_tokens=True)
    assert token_ids == ByT5Tokenizer(extra_ids=0).encode(text)
    pieces = [text[begin:end] for begin, end in itertools.pairwise([*starts, len(text)])]
    assert pieces == ["h", "i", " ", "x", "</s>", "y", ""]


def test_names_that_only_a_class_knows_come_from_transformers(tmp_path: Path) -> None:
    byte_level(tmp_path)
    rewrite(tmp_path, eos_token=None, pad_token=None, tokenizer_class="GPT2Tokenizer")
    assert load_tokenizer(tmp_path).special_tokens == AutoTokenizer.from_pretrained(tmp_path).special_tokens_map


def test_loading_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    byte_level(tmp_path)
    code = (
        "import sys; from specserve.engine.tokenizer import load_tokenizer; "
        "import specserve.engine.output_processor; "
        f"print(load_tokenizer({str(tmp_path)!r}).encode('hi', add_special_tokens=False) != []); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["True", "set()"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "{", "tokenizer.json cannot be read"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", "[]", "holds no JSON object"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    byte_level(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelLoadError, match=words):
        load_tokenizer(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="nowhere is not a folder"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("model_type", ["qwen3", "llama", "gemma", "gpt2"])
def test_a_model_folder_without_its_vocabulary_is_refused(tmp_path: Path, model_type: str) -> None:
    """transformers knows the class from config.json and would fill it with special tokens only."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelLoadError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)


def test_a_folder_without_any_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)
