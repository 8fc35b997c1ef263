"""Adapters over HTTP, with OpenAI's client: at the start, while the server runs, under load, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
import torch
from local_engine import write_model
from running_server import RunningServer, serving

sys.path.insert(0, str(Path(__file__).parent.parent / "engine" / "lora"))

from peft_adapters import EVERY_KIND, with_adapter, write_adapter
from tiny_checkpoints import oracle

PROMPT = list(range(20, 44))
LENGTH = 12


class Place(NamedTuple):
    server: RunningServer
    model: Path
    adapters: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("served")
    model, adapters = write_model(root / "model"), root / "adapters"
    for at, name in enumerate(("everything", "attention", "by pattern")):
        write_adapter(model, adapters / name.split()[-1], seed=at, spread=0.3, **EVERY_KIND[name])
    write_adapter(model, adapters / "wide", r=64, target_modules=["q_proj"])
    shutil.copytree(adapters / "attention", root / "elsewhere")
    (adapters / "link").symlink_to(root / "elsewhere")
    pickled = adapters / "pickled"
    shutil.copytree(adapters / "attention", pickled)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    flags = ("--served-model-name", "base", "--enable-lora", "--lora-modules", f"first={adapters / 'everything'}")
    limits = ("--max-loras", "2", "--max-model-len", "256", "--num-gpu-blocks-override", "200", "--max-cpu-loras", "3")
    with serving(str(model), *flags, *limits, "--lora-dir", str(adapters)) as server:
        server.wait_ready()
        yield Place(server, model, adapters)


@pytest.fixture
def client(place: Place) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{place.server.port}/v1", api_key="none", max_retries=0) as made:
        yield made


def greedy(model: Any) -> list[int]:
    """What an oracle of ours goes on with."""
    ids = list(PROMPT)
    with torch.inference_mode():
        for _ in range(LENGTH):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


def asked(client: openai.OpenAI, name: str) -> list[int]:
    answer = client.completions.create(
        model=name,
        prompt=PROMPT,
        max_tokens=LENGTH,
        temperature=0,
        extra_body={"ignore_eos": True, "return_token_ids": True},
    )
    assert answer.model == name
    return answer.choices[0].token_ids  # type: ignore[attr-defined, no-any-return]


def change(place: Place, what: str, **body: object) -> tuple[int, Any]:
    return place.server.answer("POST", f"/v1/{what}_lora_adapter", body)


def test_each_name_answers_with_its_own_weights_and_is_listed_with_its_parent(
    place: Place, client: openai.OpenAI
) -> None:
    """All at once, three times: what one has left in the prefix cache is of no use to another."""
    assert change(place, "load", lora_name="second", lora_path="attention")[0] == 200
    assert change(place, "load", lora_name="third", lora_path=str(place.adapters / "pattern"))[0] == 200
    folders = {"first": "everything", "second": "attention", "third": "pattern"}
    wanted = {name: greedy(with_adapter(place.model, place.adapters / folder)) for name, folder in folders.items()}
    wanted["base"] = greedy(oracle(place.model))
    assert len(set(map(tuple, wanted.values()))) == 4
    names = [*wanted] * 3
    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(lambda name: asked(client, name), names)) == [wanted[name] for name in names]
    listed = {one.id: one for one in client.models.list()}
    assert {name: one.parent for name, one in listed.items()} == {  # type: ignore[attr-defined]
        "base": None,
        "first": "base",
        "second": "base",
        "third": "base",
    }
    assert listed["second"].root == str(place.adapters / "attention")  # type: ignore[attr-defined]
    assert client.models.retrieve("third").parent == "base"  # type: ignore[attr-defined]
    for name in ("second", "third"):
        assert change(place, "unload", lora_name=name)[0] == 200


def test_an_adapter_answers_from_its_loading_to_its_unloading(place: Place, client: openai.OpenAI) -> None:
    assert change(place, "load", lora_name="late", lora_path="attention")[0] == 200
    assert asked(client, "late") == greedy(with_adapter(place.model, place.adapters / "attention"))
    assert change(place, "unload", lora_name="late")[1]["message"].endswith("removed successfully.")
    with pytest.raises(openai.NotFoundError, match="the model 'late' does not exist"):
        asked(client, "late")
    status, body = change(place, "unload", lora_name="late")
    assert (status, body["error"]["code"]) == (404, "adapter_not_found")
    with pytest.raises(openai.NotFoundError, match="did you mean first"):
        asked(client, "firts")


def test_an_answer_that_runs_ends_with_the_adapter_it_began_with(place: Place, client: openai.OpenAI) -> None:
    assert change(place, "load", lora_name="moving", lora_path="attention")[0] == 200
    body: dict[str, Any] = {"model": "moving", "prompt": PROMPT, "max_tokens": 200, "temperature": 0, "stream": True}
    extra = {"ignore_eos": True, "return_token_ids": True}
    stream = client.completions.create(**body, extra_body=extra)
    first = next(iter(stream))
    assert change(place, "load", lora_name="moving", lora_path="everything", load_inplace=True)[0] == 200
    assert asked(client, "moving") == asked(client, "first")
    assert change(place, "unload", lora_name="moving")[0] == 200
    choices = [choice for chunk in [first, *stream] for choice in chunk.choices]
    ids = [token for choice in choices for token in getattr(choice, "token_ids", None) or ()]
    assert len(ids) == 200
    assert ids[:LENGTH] == greedy(with_adapter(place.model, place.adapters / "attention"))


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "link", "attention/../../elsewhere", "~", "a\0b"])
def test_nothing_is_loaded_from_outside_of_the_folders(place: Place, path: str) -> None:
    status, body = change(place, "load", lora_name="x", lora_path=path)
    assert (status, body["error"]["param"]) in ((400, "lora_path"), (404, None)), body


def test_what_does_not_fit_is_refused_with_the_reason(place: Place) -> None:
    for name, path, words in (
        ("x", "wide", "has rank 64 in model.layers.0.self_attn.q_proj, the limit is 16 (--max-lora-rank)"),
        ("x", "pickled", "only safetensors are read"),
        ("base", "attention", "is the name of a model"),
        ("first", "attention", "is loaded already"),
        ("../x", "attention", "lora_name must be"),
    ):
        status, body = change(place, "load", lora_name=name, lora_path=path)
        assert status == 400, (name, path)
        assert words in body["error"]["message"]
    assert change(place, "load", lora_name="x", lora_path="nothing")[1]["error"]["code"] == "adapter_not_found"


def test_no_more_are_loaded_than_the_operator_allows(place: Place) -> None:
    for name in ("one", "two"):
        assert change(place, "load", lora_name=name, lora_path="attention")[0] == 200
    status, body = change(place, "load", lora_name="three", lora_path="attention")
    assert (status, "the limit is 3 (--max-cpu-loras)" in body["error"]["message"]) == (400, True)
    for name in ("one", "two"):
        assert change(place, "unload", lora_name=name)[0] == 200


def test_a_server_without_folders_changes_no_adapters(place: Place) -> None:
    with serving(str(place.model), "--max-model-len", "64", "--num-gpu-blocks-override", "9") as server:
        server.wait_ready()
        for what, body in (("load", {"lora_name": "x", "lora_path": "y"}), ("unload", {"lora_name": "x"})):
            status, error = server.answer("POST", f"/v1/{what}_lora_adapter", body)
            assert (status, error["error"]["code"]) == (404, "endpoint_disabled")
            assert "--lora-dir" in error["error"]["message"]


def test_a_server_whose_adapter_does_not_fit_does_not_start(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(place.adapters / "attention", tmp_path / "broken")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    flags = ("--enable-lora", "--lora-modules", f"x={folder}", "--max-model-len", "64")
    with serving(str(place.model), *flags, "--num-gpu-blocks-override", "9") as server:
        code, _, errors = server.wait_end()
    assert code == 3
    assert "the adapter x cannot be loaded" in errors
    assert "DoRA" in errors
