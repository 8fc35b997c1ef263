"""A model folder becomes a transformers module that calls our attention.

transformers' own loader reads the checkpoint, because it knows the old names and layouts of weights; this
file looks at the folder first, so that whatever is wrong with it is said in two plain lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from specserve.engine.attention.interface import ATTENTION_NAME, register
from specserve.engine.config import ModelConfig
from specserve.engine.errors import ModelLoadError, UnsupportedModelError
from specserve.engine.generation_config import read_eos_token_ids
from specserve.engine.model_folder import merged, read_json, resolve_model_folder
from specserve.engine.models import quantization
from specserve.engine.models.construction import Construction, is_mixture
from specserve.engine.models.file_weights import in_new_mapping
from specserve.engine.models.quantization import Quantization

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPE_ALIASES = {"float": "float32", "half": "float16"}
REACH_OUR_ATTENTION_UNDECLARED = ("StableLmForCausalLM",)
"""Classes that use the attention interface without saying so; the architecture tests prove them."""
LARGE_BYTES = 1 << 20
"""From this size on a table is worth a mapping of its own."""
SAFETENSORS_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`model` is in evaluation mode on `device`; `config` its transformers configuration (the text part)."""

    model: PreTrainedModel
    config: Any
    path: Path
    architecture: str
    dtype: torch.dtype
    device: torch.device
    num_parameters: int
    eos_token_ids: tuple[int, ...]
    quantization: Quantization
    """What to round the weights to; nothing is rounded yet."""
    notes: tuple[str, ...]


def load_model(config: ModelConfig, progress: Callable[[str, float], None]) -> LoadedModel:
    """Load the folder or hub id of `config`; `progress` gets a phase in words and a fraction from 0 to 1.

    Raises ModelLoadError for a missing, incomplete or damaged folder and UnsupportedModelError for an
    architecture, data type or quantization that is not served.
    """
    progress("looking for the model", 0.0)
    folder = resolve_model_folder(config.path, config.revision)
    raw = merged(read_json(folder / "config.json"), config.hf_overrides)
    hf_config = read_config(folder, config)
    architecture = _servable_architecture(hf_config, raw, config.trust_remote_code)
    return load_class(AutoModelForCausalLM, config, folder, hf_config, architecture, progress)


def load_class(
    auto_class: Any,
    config: ModelConfig,
    folder: Path,
    hf_config: Any,
    architecture: str,
    progress: Callable[[str, float], None],
    *,
    attention: str | None = ATTENTION_NAME,
    optional_weights: tuple[str, ...] = (),
) -> LoadedModel:
    """The folder's weights in the class that `auto_class` of transformers finds for the configuration.

    attention         transformers' name of the attention to use; None: the class's own choice
    optional_weights  beginnings of names that the checkpoint may lack

    Raises as `load_model`.
    """
    files = find_safetensors(folder)
    device = choose_device(config.device)
    wanted = Quantization(config.quantization)
    dtype, notes = choose_dtype(config.dtype, hf_config, _checkpoint_dtype(files), device)
    if wanted.is_wanted and config.dtype == "auto" and dtype == torch.float32:
        dtype, notes = torch.bfloat16, [*notes, f"float32 weights run in bfloat16 for --quantization {wanted.name}"]
    quantization.check(wanted, device, dtype)
    register()
    options = {} if attention is None else {"attn_implementation": attention}
    model = _read_weights(auto_class, folder, config, hf_config, dtype, progress, options, optional_weights)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    model.to(device)
    return LoadedModel(
        model=model,
        config=model.config.get_text_config(),
        path=folder,
        architecture=architecture,
        dtype=dtype,
        device=device,
        num_parameters=num_parameters,
        eos_token_ids=config.eos_token_ids or read_eos_token_ids(folder),
        quantization=wanted,
        notes=tuple(notes),
    )


def release_files(model: nn.Module, *, but: nn.Module | None = None) -> None:
    """Let go of the mapping that weights were read through: it holds all of a file, and one weight keeps it.

    For what is left on the CPU when the rest has been packed, such as norms, which are copied, and embeddings, of which
    a new mapping holds the rows that are used. `but` is left as it is.
    """
    others = set() if but is None else set(map(id, but.parameters()))
    # Rows of tables are looked up. What a product reads whole is better off in the huge pages of a copy.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and id(parameter) not in others:
            is_table = id(parameter) in tables and parameter.nbytes >= LARGE_BYTES
            in_file = in_new_mapping(parameter.data) if is_table else None
            parameter.data = parameter.data.clone() if in_file is None else in_file


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises UnsupportedModelError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UnsupportedModelError(f"--device {name} is not a device", "use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UnsupportedModelError(f"--device {name} is not supported", "use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedModelError("--device cuda: torch sees no CUDA device", "use --device cpu or auto")
    return device


def choose_dtype(
    name: str, hf_config: Any, checkpoint: torch.dtype, device: torch.device
) -> tuple[torch.dtype, list[str]]:
    """The data type to run in, with a note for each deviation from what was asked or stored.

    `auto` is the checkpoint's own type. CPUs compute 16-bit models in bfloat16 when they have instructions
    for it, else in float32: float16 arithmetic is emulated there and overflows where bfloat16 does not.
    """
    name = DTYPE_ALIASES.get(name, name)
    if name != "auto":
        if name not in DTYPES:
            raise UnsupportedModelError(f"--dtype {name} is not supported", f"use auto or one of {', '.join(DTYPES)}")
        return DTYPES[name], []
    declared = getattr(hf_config, "dtype", None)
    wanted = declared if isinstance(declared, torch.dtype) else checkpoint
    if wanted == torch.float64:
        wanted = torch.float32
    if device.type != "cpu" or wanted == torch.float32:
        return wanted, []
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32, [f"{wanted} weights run in float32: this CPU has no bfloat16 instructions"]
    if wanted == torch.float16:
        return torch.bfloat16, ["float16 weights run in bfloat16, which this CPU computes natively"]
    return wanted, []


def find_safetensors(folder: Path) -> list[Path]:
    """The checkpoint's files, each opened once to see that its header and length agree.

    Raises ModelLoadError for none, a missing shard or a damaged file.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        files = [single]
    elif index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelLoadError(f"{index} has no weight_map", "download or export the model again")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        other = sorted(path.name for pattern in ("*.bin", "*.pt", "*.gguf") for path in folder.glob(pattern))
        found = f"; it has {', '.join(other[:3])}" if other else ""
        raise ModelLoadError(
            f"{folder} has no model.safetensors and no model.safetensors.index.json{found}",
            "convert the weights to safetensors (transformers' save_pretrained writes them)",
        )
    if missing := [path.name for path in files if not path.is_file()]:
        raise ModelLoadError(
            f"{folder} lacks {len(missing)} of {len(files)} checkpoint files: {', '.join(missing[:3])}",
            "download the model again, or copy the missing files",
        )
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                f"{path} is damaged: {error}", "download or copy it again; compare its size with the original"
            ) from error
    return files


def _checkpoint_dtype(files: list[Path]) -> torch.dtype:
    """The type of the first floating-point tensor stored."""
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                if (dtype := SAFETENSORS_DTYPES.get(tensors.get_slice(name).get_dtype())) is not None:
                    return dtype
    return torch.float32


def read_config(folder: Path, config: ModelConfig) -> Any:
    """transformers' configuration of the folder, with the overrides. Raises UnsupportedModelError."""
    try:
        found = AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code, local_files_only=True)
        if not config.hf_overrides:
            return found
        return type(found).from_dict(merged(found.to_dict(), config.hf_overrides))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, ImportError) as error:
        model_type = read_json(folder / "config.json").get("model_type")
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(
            f"{folder}/config.json (model_type {model_type!r}) is not understood: {first_line[:200]}",
            "use a model_type this version of transformers knows, or upgrade transformers",
        ) from error


def _servable_architecture(hf_config: Any, raw: dict[str, Any], trust_remote_code: bool) -> str:
    """The class name the checkpoint was made with, once it is clear that it can be served."""
    default = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(getattr(hf_config, "model_type", ""), "")
    architecture = str((raw.get("architectures") or [default])[0])
    remote = trust_remote_code and "AutoModelForCausalLM" in raw.get("auto_map", {})
    known = {name for entry in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for name in _names(entry)}
    if architecture not in known and not remote:
        raise UnsupportedModelError(
            f"{architecture or 'the architecture'} is not a causal language model known to transformers",
            "serve a decoder such as LlamaForCausalLM or Qwen2ForCausalLM"
            + ("" if trust_remote_code else "; a model with its own code needs --trust-remote-code"),
        )
    if (quantization := raw.get("quantization_config")) is not None:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise UnsupportedModelError(
            f"the checkpoint is quantized ({method}), which is not supported", "serve its unquantized version"
        )
    model_class = None if remote else AutoModelForCausalLM._model_mapping.get(type(hf_config), None)
    declared = remote or getattr(model_class, "_supports_attention_backend", False)
    if not declared and architecture not in REACH_OUR_ATTENTION_UNDECLARED:
        raise unreachable_attention(architecture)
    return architecture


def unreachable_attention(architecture: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{architecture} does not compute attention through transformers' attention interface, "
        "so its keys and values cannot be kept in paged blocks",
        "serve another architecture: those with _supports_attention_backend in transformers work",
    )


def _names(entry: Any) -> Iterable[str]:
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _read_weights(
    auto_class: Any,
    folder: Path,
    config: ModelConfig,
    hf_config: Any,
    dtype: torch.dtype,
    progress: Callable[[str, float], None],
    options: dict[str, Any],
    optional_weights: tuple[str, ...],
) -> PreTrainedModel:
    def read(making: AbstractContextManager[object]) -> tuple[Any, Any]:
        with _loading_progress(Percents(lambda done: progress("reading weights", done))), making:
            found: tuple[Any, Any] = auto_class.from_pretrained(
                folder,
                config=hf_config,
                dtype=dtype,
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
        return found

    try:
        try:
            model, report = read(nullcontext() if config.trust_remote_code else Construction())
        except RuntimeError as error:
            if not is_mixture(error):
                raise
            model, report = read(nullcontext())
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ModelLoadError(
            f"{folder} cannot be loaded: {lines[0][:300]}",
            "check that config.json belongs to these weights, or download the model again",
        ) from error
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith(optional_weights)):
        raise ModelLoadError(
            f"{folder} lacks {len(missing)} weights of {type(model).__name__}: {', '.join(missing[:3])}",
            "check that config.json belongs to these weights, and that the model was saved for this task",
        )
    model.eval().requires_grad_(False)
    return cast(PreTrainedModel, model)


class Percents:
    """Passes a growing fraction on when it has grown by at least a hundredth, or is complete."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._last = 0.0

    def __call__(self, done: float) -> None:
        if done >= self._last + 0.01 or done >= 1.0:
            self._last = done
            self._report(done)


@contextmanager
def _loading_progress(report: Callable[[float], None]) -> Iterator[None]:
    """Hear of transformers' progress bars instead of having them drawn."""

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and kwargs.get("desc") == "Loading weights":
            return _counted(args[0], report)
        return factory(*args, **kwargs | {"disable": True})

    before = transformers_logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)


def _counted(items: Iterable[Any], report: Callable[[float], None]) -> Iterator[Any]:
    listed = list(items)
    for count, item in enumerate(listed, 1):
        yield item
        report(count / len(listed))
