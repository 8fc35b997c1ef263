"""What is written depends on openapi/ alone, and --check notices anything else."""

import os
import shutil
import subprocess
import sys

import codegen


def run(root, *arguments: str, seed: str = "0", cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(root / "codegen.py"), *arguments],
        env=os.environ | {"PYTHONHASHSEED": seed},
        cwd=cwd or root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_generated_files_are_fresh(root):
    assert codegen.stale_files(root / "generated") == []


def test_two_runs_write_the_same_bytes(root, tmp_path):
    """Whatever the hash seed, the folder written to and the folder started in."""
    written = []
    for seed, cwd in (("1", root), ("2", tmp_path)):
        out = tmp_path / seed
        done = run(root, "--output", str(out), seed=seed, cwd=cwd)
        assert done.returncode == 0, done.stderr
        written.append({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
    assert written[0] == written[1]
    assert sorted(written[0]) == sorted(codegen.FILES)


def test_check_notices_touched_missing_and_left_over_files(root, tmp_path):
    copy = tmp_path / "generated"
    shutil.copytree(root / "generated", copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert codegen.main(["--check", "--output", str(copy)]) == 0
    (copy / "schemas.py").write_text((copy / "schemas.py").read_text() + "# by hand\n")
    (copy / "errors.py").unlink()
    (copy / "left_over.py").write_text("")
    done = run(root, "--check", "--output", str(copy))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "stale: generated/errors.py", "stale: generated/left_over.py", "stale: generated/schemas.py",
    ]  # fmt: skip
    assert (copy / "schemas.py").read_text().endswith("# by hand\n"), "--check writes nothing"


def test_a_finding_ends_the_run_with_its_message(root, tmp_path, monkeypatch, capsys):
    openapi = tmp_path / "openapi"
    shutil.copytree(root / "openapi", openapi)
    overlay = openapi / "vllm" / "models.overlay.yaml"
    overlay.write_text(overlay.read_text().replace("schemas.Model", "schemas.Modell"))
    monkeypatch.setattr(codegen, "SOURCE", openapi)
    assert codegen.main(["--output", str(tmp_path / "out")]) == 1
    assert "models.overlay.yaml: nothing matches $.components.schemas.Modell" in capsys.readouterr().err
