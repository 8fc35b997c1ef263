"""Models of the hub: brought into the local cache, or told in two plain lines why not."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from specserve.engine.errors import ModelLoadError

WANTED_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.tiktoken", "*.py", "artifact.metadata"]
"""Everything a model folder may need here: pickled weights are never fetched."""


def download(name: str, revision: str | None) -> Path:
    """The folder of `name`, such as `org/name`, in the cache. Raises ModelLoadError."""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=WANTED_FILES))
    except GatedRepoError as error:
        raise ModelLoadError(f"{name} is gated on the hub", "accept its licence there and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ModelLoadError(
            f"{name} has no revision {revision!r} on the hub", "pass another --revision or none"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(
            f"{name} is neither a local folder nor a model on the hub",
            "check the spelling; a private model needs HF_TOKEN",
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise ModelLoadError(
            f"{name} is neither a local folder nor in the local hub cache, and the hub cannot be reached",
            "pass a folder, or connect to the network and unset HF_HUB_OFFLINE",
        ) from error
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelLoadError(
            f"{name} could not be downloaded: {first_line}", "try again, or pass a local folder"
        ) from error
