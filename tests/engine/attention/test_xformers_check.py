"""What does not fit is told in one sentence: the cause, what was found, what is supported, what to type."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

import pytest
import torch
from attention_cases import MIXED, Case

from specserve.engine.attention import xformers_check
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.select import select_backend
from specserve.engine.attention.xformers_backend import XFormersBackend
from specserve.engine.attention.xformers_check import version_misfit
from specserve.engine.registry import LazyRegistry

CUDA = torch.device("cuda")
FITTING = {"torch": "2.13.0+cu130", "triton": "3.7.1", "xformers": "0.0.35"}


def install(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that these versions are installed, beside those that fit."""
    found = {**FITTING, **versions}

    def version(package: str) -> str:
        answer = found[package]
        if answer is None:
            raise metadata.PackageNotFoundError(package)
        return answer

    monkeypatch.setattr(metadata, "version", version)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0)) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def layers(dtype: torch.dtype = torch.bfloat16, head_size: int = 64) -> list[LayerSpec]:
    return Case("", MIXED, head_size=head_size).layers(dtype)


@pytest.mark.parametrize(
    "versions",
    [
        {},
        {"torch": "2.10.0+cu128", "triton": "3.6.0"},
        {"torch": "2.14.1", "triton": "3.8.0"},
        {"torch": "2.11.0a0+nv25.10"},
    ],
    ids=str,
)
def test_versions_that_fit(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    install(monkeypatch, **versions)
    assert version_misfit() is None


@pytest.mark.parametrize(
    ("versions", "cause"),
    [
        ({"xformers": None}, "xformers (its kernels) is not installed"),
        ({"triton": None}, "triton (the compiler of xformers' kernels) is not installed"),
        (
            {"torch": "2.15.0", "triton": "3.9.0"},
            "Triton 3.9.0 has no block pointers any more, and xformers' paged kernel is written with them",
        ),
        ({"triton": "3.10.0"}, "Triton 3.10.0 has no block pointers any more"),
        ({"triton": "3.5.1"}, "Triton 3.5.1 is too old"),
        ({"torch": "2.15.0"}, "torch 2.15.0 has not been tried with xformers' operators"),
        ({"torch": "2.9.1"}, "torch 2.9.1 has not been tried with xformers' operators"),
    ],
    ids=str,
)
def test_versions_that_do_not_fit_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], cause: str
) -> None:
    install(monkeypatch, **versions)
    sentence = version_misfit()
    assert sentence is not None
    assert sentence.startswith(cause)
    for package, version in {**FITTING, **versions}.items():
        assert version is None or f"{package} {version}" in sentence
    assert "torch >=2.10,<2.15" in sentence
    assert sentence.endswith("python -m pip install 'torch>=2.10,<2.15' 'xformers==0.0.35'")
    assert "\n" not in sentence


def test_the_versions_of_this_environment_fit() -> None:
    assert version_misfit() is None


def test_an_import_that_fails_in_any_way_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_operators.py").write_text(
        "raise AttributeError('''module 'triton.language' has no attribute 'make_block_ptr'\n  more lines''')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(xformers_check, "_OPERATORS", LazyRegistry({"xformers": "broken_operators:Any"}))
    pretend_gpu(monkeypatch)
    install(monkeypatch)
    reason = XFormersBackend.refuses(layers(), CUDA, 64)
    assert reason is not None
    assert reason.startswith(
        "importing xformers failed (AttributeError: module 'triton.language' has no attribute "
        "'make_block_ptr'): found torch 2.13.0+cu130, triton 3.7.1, xformers 0.0.35; supported are "
    )
    assert "\n" not in reason


def test_where_xformers_does_not_fit_the_next_backend_serves_and_the_sentence_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend_gpu(monkeypatch)
    install(monkeypatch, torch="2.15.0", triton="3.9.0")
    with caplog.at_level(logging.WARNING):
        assert select_backend("auto", layers(), CUDA, None).name == "reference"
    assert "xformers: Triton 3.9.0 has no block pointers any more" in caplog.messages[0]


def test_other_devices_are_refused_without_importing_xformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(xformers_check, "_OPERATORS", LazyRegistry({}))
    reason = XFormersBackend.refuses(layers(), torch.device("cpu"), 64)
    assert reason == "it runs on NVIDIA GPUs, not on cpu"


def test_a_gpu_that_torch_does_not_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = XFormersBackend.refuses(layers(), CUDA, 64)
    assert reason == f"torch {torch.__version__} finds no NVIDIA GPU"


def test_old_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (7, 5))
    reason = XFormersBackend.refuses(layers(), CUDA, 64)
    assert reason == "the GPU has compute capability 7.5, the kernels need 8.0 (A100) or higher"


def test_rocm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "ROCm" in str(XFormersBackend.refuses(layers(), CUDA, 64))


def test_softcap_is_refused_with_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    capped = LayerSpec(4, 2, 64, 64, torch.bfloat16, 0.125, softcap=50.0)
    reason = XFormersBackend.refuses([*layers(), capped], CUDA, 64)
    assert reason == ("layer 1 caps its scores at 50.0, for which xformers has no form; the triton backend has it")


@pytest.mark.parametrize(
    ("specs", "block_size", "part"),
    [
        (layers(head_size=576), 64, "layer 0 has heads of 576, wider than 512"),
        (layers(torch.float64), 64, "layer 0 computes in torch.float64"),
        (layers(), 48, "blocks of 48 tokens are not one of 16, 32, 64, 128, 256; 64 is best"),
        ([LayerSpec(5, 2, 64, 64, torch.bfloat16, 0.125)], 64, "5 heads for 2 key-value heads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_kernels_cannot_do_is_refused_by_number(
    monkeypatch: pytest.MonkeyPatch, specs: list[LayerSpec], block_size: int, part: str
) -> None:
    pretend_gpu(monkeypatch)
    reason = XFormersBackend.refuses(specs, CUDA, block_size)
    assert reason is not None
    assert part in reason
