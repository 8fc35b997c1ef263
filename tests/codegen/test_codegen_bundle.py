"""Joining the documents: references, names with one home, overlays that must match."""

import copy
from pathlib import Path

import pytest
import yaml

import codegen_bundle
import codegen_lint

PET = {"type": "object", "required": ["name", "kind"], "properties": {"name": {"type": "string"}}}


def write(folder: Path, **documents: object) -> Path:
    sources = {"base": [], "extensions": [], "overlays": []}
    for name, document in documents.items():
        kind = "overlays" if "overlay" in document else "extensions" if name.startswith("extra") else "base"
        sources[kind].append(f"{name}.yaml")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    (folder / "root.yaml").write_text(
        yaml.safe_dump({"openapi": "3.2.0", "info": {}, "x-sources": sources, "components": {}})
    )
    return folder / "root.yaml"


def components(**schemas: object) -> dict:
    return {"components": {"schemas": copy.deepcopy(schemas)}}


def layer(*actions: dict) -> dict:
    return {"overlay": "1.0.0", "actions": list(actions)}


def test_references_between_files_end_up_in_one_document(tmp_path):
    owner = {"type": "object", "properties": {"pet": {"$ref": "pets.yaml#/components/schemas/Pet"}}}
    doc = codegen_bundle.bundle(write(tmp_path, pets=components(Pet=PET), owners=components(Owner=owner)))
    assert doc["components"]["schemas"]["Owner"]["properties"]["pet"] == {"$ref": "#/components/schemas/Pet"}


def test_a_name_defined_twice_is_refused(tmp_path):
    with pytest.raises(codegen_bundle.ContractError, match=r"more\.yaml: Pet is already defined"):
        codegen_bundle.bundle(write(tmp_path, pets=components(Pet=PET), more=components(Pet=PET)))


def test_a_reference_to_nothing_is_refused(tmp_path):
    owner = {"type": "object", "properties": {"pet": {"$ref": "#/components/schemas/Pet"}}}
    with pytest.raises(codegen_bundle.ContractError, match="unresolved #/components/schemas/Pet"):
        codegen_bundle.bundle(write(tmp_path, owners=components(Owner=owner)))


def test_a_reference_to_a_missing_file_is_refused(tmp_path):
    owner = {"type": "object", "properties": {"pet": {"$ref": "pets.yaml#/components/schemas/Pet"}}}
    with pytest.raises(codegen_bundle.ContractError, match=r"no file for pets\.yaml"):
        codegen_bundle.bundle(write(tmp_path, owners=components(Owner=owner)))


def test_an_overlay_mixes_in_widens_and_removes(tmp_path):
    changes = layer(
        {"target": "$.components.schemas.Pet", "update": {"allOf": [{"$ref": "#/components/schemas/Chip"}]}},
        {"target": "$.components.schemas.Pet.required[?(@ == 'kind')]", "remove": True},
        {"target": "$.components.schemas.Pet.properties.name", "update": {"type": ["string", "null"]}},
    )
    chip = {"type": "object", "required": ["chip"], "properties": {"chip": {"type": "string"}}}
    doc = codegen_bundle.bundle(write(tmp_path, pets=components(Pet=PET), extra=components(Chip=chip), wiring=changes))
    pet = codegen_bundle.flatten(doc)["components"]["schemas"]["Pet"]
    assert pet["properties"] == {"name": {"type": ["string", "null"]}, "chip": {"type": "string"}}
    assert pet["required"] == ["name", "chip"]
    assert "allOf" not in pet


def test_the_standard_alone_has_no_extension(tmp_path):
    changes = layer({"target": "$.components.schemas.Pet", "update": {"description": "extended"}})
    entry = write(tmp_path, pets=components(Pet=PET), extra=components(Chip=PET), wiring=changes)
    assert codegen_bundle.bundle(entry, standard_only=True)["components"]["schemas"] == {"Pet": PET}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("$.components.schemas.Cat", "nothing matches"),
        ("$.components.schemas.Pet.required[?(@ == 'age')]", "nothing matches"),
        ("$.components.schemas['Pet','Cat']", "nothing matches .* in part"),
        ("$.components.schemas.Pet..name", "not a path"),
        ("$.components.schemas.*", "not a path"),
    ],
)
def test_an_overlay_that_matches_nothing_is_refused(tmp_path, target, message):
    with pytest.raises(codegen_bundle.ContractError, match=rf"wiring\.yaml: .*{message}|{message}"):
        codegen_bundle.bundle(write(tmp_path, pets=components(Pet=PET), wiring=layer({"target": target, "update": {}})))


def test_our_standard_documents_stand_alone(root):
    """They resolve without the extensions, and require what the standard requires."""
    doc = codegen_bundle.bundle(root / "openapi" / "root.yaml", standard_only=True)
    request = doc["components"]["schemas"]["ChatCompletionRequest"]
    assert request["required"] == ["model", "messages"]
    assert "allOf" not in request
    findings = [line for rule in codegen_lint.RULES if rule is not codegen_lint.rule_examples for line in rule(doc)]
    # Codes that only extensions refuse with; the model's name is left out of every example.
    assert not findings


def test_extensions_change_no_document_of_the_standard(root):
    for path in sorted((root / "openapi" / "openai").glob("*.yaml")):
        assert "vllm/" not in path.read_text(), path.name
