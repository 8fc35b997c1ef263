"""Lets the tests here import this folder's modules and share one compiler over a byte-level vocabulary."""

from __future__ import annotations

import pytest
from trained_tokenizers import byte_level

from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    tokenizer = load_tokenizer(byte_level(tmp_path_factory.mktemp("tokenizer")))
    return Vocabulary.of(tokenizer, tokenizer.vocab_size, tokenizer.eos_token_ids)


@pytest.fixture(scope="session")
def compiler(vocabulary: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(vocabulary)
