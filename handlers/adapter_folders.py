"""Where adapters may be loaded from while the server runs: folders below those of --lora-dir, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from specserve.generated.errors import AdapterNotFound, UnsupportedValue

FILES = ("adapter_config.json", "adapter_model.safetensors")


def allowed_folder(given: str, allowed: Sequence[str]) -> Path:
    """The folder that is meant, links followed: one inside of `allowed`, or named as seen from there.

    Raises UnsupportedValue for any other place, whether something is there or not, and AdapterNotFound.
    """
    roots = [Path(one).expanduser().resolve() for one in allowed]
    outside = UnsupportedValue(
        "lora_path leads out of the folders that adapters may be loaded from (--lora-dir); give a folder in there, or "
        "its path as seen from there",
        param="lora_path",
    )
    try:
        if (folder := folder_there(given, roots)) is not None:
            return folder
        meant_inside = any(is_inside((root / given).resolve(), roots) for root in roots)
    except (OSError, ValueError, RuntimeError):  # too long, a loop of links, characters that no path has
        raise outside from None
    if meant_inside:
        raise AdapterNotFound("there is no folder at lora_path; it has to hold what PEFT's save_pretrained writes")
    raise outside


def folder_there(given: str, roots: Sequence[Path]) -> Path | None:
    """The first one that is there and whose files are inside of `roots` too."""
    for root in roots:
        folder = (root / given).resolve()
        if is_inside(folder, roots) and folder.is_dir():
            if all(is_inside((folder / name).resolve(), roots) for name in FILES):
                return folder
            return None
    return None


def is_inside(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
