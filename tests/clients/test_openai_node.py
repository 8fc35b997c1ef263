"""OpenAI's client for JavaScript, run by node as its users run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from demo_server import KEY, MODEL
from scripted_model import call, reciting

FOLDER = Path(__file__).parent / "node"
PARIS = "The capital of France is Paris."
MISSING = "node and npm are not installed"
STORY = "Once upon a time there was a cat. " * 100


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the script printed. The package is installed once, beside the script, where git does not look."""
    if not (shutil.which("node") and shutil.which("npm")):
        assert not os.environ.get("CI"), MISSING
        pytest.skip(MISSING)
    if not (FOLDER / "node_modules" / "openai").exists():
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--omit=peer"]
        subprocess.run(["npm", "ci", *quiet], cwd=FOLDER, check=True, timeout=200)
    script = [
        ("<tool_response>", ["It is sunny in Boston."]),
        ("Boston", call("get_weather", location="Boston")),
        ("long story", [STORY]),
    ]
    with reciting(script) as server:
        environment = os.environ | {"SERVER": server.base_url, "KEY": KEY, "MODEL": MODEL}
        done = subprocess.run(
            ["node", "openai_client.mjs"], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_a_stream_folds_to_the_whole_answer(found: dict[str, Any]) -> None:
    assert found["whole"] == PARIS
    assert found["streamed"] == [PARIS, PARIS, "stop"]
    assert found["usage"]


def test_calls_are_made_and_their_results_lead_to_an_answer(found: dict[str, Any]) -> None:
    assert found["call"] == ["tool_calls", "get_weather", {"location": "Boston"}]
    assert found["loop"] == [["Boston"], "It is sunny in Boston."]


def test_responses_are_streamed_kept_and_call(found: dict[str, Any]) -> None:
    assert found["response"] == ["completed", PARIS, "response.created", "response.completed"]
    assert found["kept"] == PARIS
    assert found["responseCall"] == ["get_weather"]


def test_leaving_ends_a_stream_at_once(found: dict[str, Any]) -> None:
    has_left, num_pieces = found["aborted"]
    assert has_left
    assert num_pieces < len(STORY.split())


def test_errors_have_the_classes_the_client_knows(found: dict[str, Any]) -> None:
    assert found["unknown"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert found["wrong"][:2] == ["BadRequestError", 400]
    assert found["wrong"][3] == "temperature"
