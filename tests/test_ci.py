"""docs/ci.md, the hook, the proofs: the workflow's commands run on the examples, the hook runs as for pre-commit."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from evenly.cli import hook

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(body) for body in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
WORKFLOW = next(block for block in BLOCKS if "jobs" in block)
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps(job: str) -> list[dict]:
    return WORKFLOW["jobs"][job]["steps"]


def test_the_workflow_has_the_form_that_github_takes():
    assert set(WORKFLOW) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads the key on as true
    for job in WORKFLOW["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "run" not in step or step["name"]
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", step["uses"])
    upload = next(s for s in steps("network") if "upload-sarif" in s.get("uses", ""))
    written = next(s["run"] for s in steps("network") if "--format sarif" in s.get("run", ""))
    assert f"--output {upload['with']['sarif_file']} " in written
    assert WORKFLOW["permissions"]["security-events"] == "write"


@pytest.mark.parametrize("job", list(WORKFLOW["jobs"]))
def test_extras_are_those_of_the_package(job):
    (install,) = [s["run"] for s in steps(job) if s.get("name") == "Install"]
    extras = re.search(r"evenly\[([\w,]+)\]", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("ci") / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("out", "*.onnx", "__pycache__"))
    (folder / "out").mkdir()
    build = (
        "import build, networks; from pathlib import Path; "
        "build.export(networks.cyclegan_generator(), Path('out/cyclegan_generator.onnx'))"
    )
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def shell(command: str, folder: Path, summary: Path) -> subprocess.CompletedProcess:
    """As GitHub runs a step; evenly and python are those of the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(summary)}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("job", list(WORKFLOW["jobs"]))
def test_every_step_of_the_workflow_succeeds_on_the_examples(job, examples, tmp_path):
    summary = tmp_path / "summary.md"
    commands = [s["run"] for s in steps(job) if "run" in s and s["name"] != "Install"]
    baselines = [line[2:] for line in PAGE.splitlines() if line.startswith("$ ") and "--write-baseline" in line]
    if job == "network":
        commands[:0] = baselines
    for command in commands:
        done = shell(command, examples, summary)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    text = summary.read_text(encoding="utf-8")
    assert text.count("## evenly ") == sum("GITHUB_STEP_SUMMARY" in command for command in commands)
    assert text.count("<details>") == text.count("</details>") > 0
    if job == "network":
        assert (examples / "evenly.sarif").is_file()


def test_the_workflow_fails_where_there_is_something(examples, tmp_path):
    """The same commands on the generators that are not cured."""
    summary = tmp_path / "summary.md"
    checked = next(s["run"] for s in steps("network") if "--baseline" in s.get("run", ""))
    done = shell(re.sub(r"--baseline \S+", "", checked), examples, summary)
    assert done.returncode == 1, done.stderr
    assert "EV101" in summary.read_text(encoding="utf-8")
    (measured,) = [s["run"] for s in steps("pictures") if "evenly measure" in s.get("run", "")]
    if not (examples / "made").is_dir():
        assert shell("python pictures.py --out made", examples, summary).returncode == 0
    assert shell(measured.replace("resized", "transposed"), examples, summary).returncode == 1


# ---- the hook --------------------------------------------------------------------------------------------------------


def model(path: Path, kernel: int) -> Path:
    """One transposed convolution of stride 2."""
    weight = numpy_helper.from_array(np.ones((1, 1, kernel, kernel), np.float32), "w")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_manifest_is_what_pre_commit_takes():
    (entry,) = HOOKS
    assert set(entry) <= {
        *("id", "name", "description", "entry", "language", "files", "require_serial", "additional_dependencies"),
        *("args", "types", "types_or", "pass_filenames", "stages", "always_run", "minimum_pre_commit_version"),
    }
    assert entry["id"] == "evenly-check"
    assert entry["language"] == "python"
    assert re.search(entry["files"], "models/a.onnx")
    assert not re.search(entry["files"], "a.onnx.txt")
    assert set(entry["additional_dependencies"]) <= set(PROJECT["optional-dependencies"]["onnx"])
    used = [block["repos"][0]["hooks"][0] for block in BLOCKS if "repos" in block]
    assert len(used) == 2
    assert {h["id"] for h in used} == {entry["id"]}
    assert all(set(h.get("additional_dependencies", ())) <= {*PROJECT["optional-dependencies"]["torch"]} for h in used)


def as_pre_commit(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = shlex.split(HOOKS[0]["entry"])
    assert command[0] == "python"
    return subprocess.run(
        [sys.executable, *command[1:], *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_hook_as_pre_commit_runs_it(tmp_path):
    model(tmp_path / "odd name.onnx", 3)
    model(tmp_path / "even.onnx", 2)
    done = as_pre_commit(tmp_path, "--fail-on", "error", "odd name.onnx", "even.onnx")
    assert done.returncode == 1
    assert "evenly check odd name.onnx" in done.stdout
    assert "EV101" in done.stdout
    assert "evenly check even.onnx" in done.stdout
    assert as_pre_commit(tmp_path, "--fail-on", "error", "even.onnx").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["even.onnx"], 0),
        (["even.onnx", "odd.onnx"], 1),
        (["odd.onnx", "broken.onnx", "even.onnx"], 2),
        (["--fail-on", "never", "odd.onnx"], 0),
        (["--select", "EV2", "odd.onnx", "even.onnx"], 0),
        (["-starts-with-a-dash.onnx"], 1),
        (["no_such_module_here:net"], 2),
        ([], 2),
    ],
)
def test_the_worst_file_counts(tmp_path, monkeypatch, capsys, arguments, code):
    monkeypatch.chdir(tmp_path)
    model(Path("even.onnx"), 2)
    model(Path("odd.onnx"), 3)
    model(Path("-starts-with-a-dash.onnx"), 3)
    Path("broken.onnx").write_bytes(b"no model")
    with pytest.raises(SystemExit) as end:
        hook.main(arguments)
    assert end.value.code == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert (code == 2) == captured.err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "count"),
    [("test_image", 1), ("tests/measure/test_image.py", 1), ("measure/test_image*", 2), ("image", 0), ("theory", None)],
)
def test_proofs_are_chosen_by_their_whole_names(name, count):
    meant = runpy.run_path(str(ROOT / ".ci" / "prove.py"))["meant"]
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    chosen = [path for path in files if meant(path, name)]
    assert len(chosen) == (len(list((ROOT / "tests" / "theory").glob("test_*.py"))) if count is None else count)


def test_a_proof_depends_on_what_its_helpers_use(tmp_path):
    helpers = runpy.run_path(str(ROOT / ".ci" / "prove.py"))["helpers"]
    helpers.__globals__["ROOT"] = tmp_path
    sources = {
        "test_one": "import near", "near": "import far", "far": "", "other": "", "test_two": "import other",
        "conftest": "",
    }  # fmt: skip
    (tmp_path / "tests").mkdir()
    for name, text in sources.items():
        (tmp_path / "tests" / f"{name}.py").write_text(text, "utf-8")
    used = helpers(tmp_path / "tests" / "test_one.py")
    assert sorted(path.stem for path in used) == ["conftest", "far", "near", "test_one"]
