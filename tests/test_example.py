"""The example repository works as its README says: installed, green, and red when it should be."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

import bob
from bob.catalog import Catalog, load_catalog, parse_backbone
from bob.hashing import digest_of_file
from bob.references.files import ReferenceStore

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "new_backbone"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    command.strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    for command in line.split("  #")[0].split("&&")
]
QUICK = ("-m", "knn or linear_probe or retrieval or finetune")

Run = Callable[..., subprocess.CompletedProcess[str]]


def copy_of_example(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("mlruns", "__pycache__", "*.egg-info", ".venv", ".*_cache")
    return Path(shutil.copytree(EXAMPLE, folder / "new_backbone", ignore=ignored))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's package as pip installs it, without its dependencies and without a network."""
    folder = tmp_path_factory.mktemp("site")
    source = copy_of_example(tmp_path_factory.mktemp("source"))
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
            "--no-build-isolation", "--disable-pip-version-check", "--target", str(folder),
            str(source),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_of_example(tmp_path)


@pytest.fixture(scope="module")
def run(site: Path, shared_store: str) -> Run:
    """Run Python in a repository, with its package and this ``bob`` installed."""
    root = Path(bob.__file__).resolve().parents[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(site), str(root)]),
        "MLFLOW_TRACKING_URI": shared_store,
        "OMP_NUM_THREADS": "1",
    }

    def run(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
        # -P: the installed package is imported, not the folder that lies here.
        return subprocess.run(
            [sys.executable, "-P", *words],
            cwd=repository, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def name_digest_of(file: Path, repository: Path) -> None:
    entry = repository / "bob.yaml"
    sha256 = f"sha256: {digest_of_file(file)}"
    text, count = re.subn(r"sha256: [0-9a-f]{64}", sha256, entry.read_text())
    assert count == 1
    entry.write_text(text)


@pytest.mark.slow
def test_the_repository_is_green_as_committed(run: Run, repository: Path) -> None:
    done = run(repository, "-m", "pytest", "--require-bands", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "bob: scale smoke, 1 backbones" in done.stdout
    row = r"^pebblenet +knn +digits +top1 .* pass( \(unchanged\))?$"
    assert re.search(row, done.stdout, re.MULTILINE)
    assert "unused references" not in done.stdout


@pytest.fixture(scope="module")
def sabotaged(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a session prints of three backbones at once, which shares the seconds of imports.

    ``pebblenet`` has reversed channels between its stages, and its entry the new file's digest.
    ``pebblenet_damaged`` is the released file with one bit flipped, and its digest as it was.
    ``pebblenet_untrained`` is what the installed package brings.
    """
    repository = copy_of_example(tmp_path_factory.mktemp("sabotaged"))
    file = repository / "pebblenet" / "pebblenet.safetensors"
    entry = yaml.safe_load((repository / "bob.yaml").read_text())["backbones"]["pebblenet"]

    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (repository / "damaged.safetensors").write_bytes(content)
    entry["weights"]["file"] = "damaged.safetensors"
    damaged = {"backbones": {"pebblenet_damaged": entry}}
    (repository / "damaged.yaml").write_text(yaml.safe_dump(damaged))

    state = load_file(file)
    state["merge.1.weight"] = state["merge.1.weight"].flip(1).contiguous()
    save_file(state, file)
    name_digest_of(file, repository)

    named = ("pebblenet", "pebblenet_damaged", "pebblenet_untrained")
    words = [word for name in named for word in ("--backbone", name)]
    done = run(
        repository, "-m", "pytest", "--catalog", "damaged.yaml", *words, "-m", "knn or retrieval"
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "4 failed, 2 passed" in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "metric"), [("knn/digits", "top1"), ("retrieval/characters", "map")]
)
def test_corrupted_weights_are_red_and_name_the_metric(
    sabotaged: str, setting: str, metric: str
) -> None:
    words = rf"{setting} of pebblenet at scale smoke: {metric} \S+ is below its band \["
    assert re.search(words, sabotaged), sabotaged
    assert "note        the weights are not those the reference was measured with" in sabotaged
    assert "pytest --pyargs 'suites.test_probe::test_knn[pebblenet-digits]'" in sabotaged


@pytest.mark.slow
def test_a_damaged_file_is_told(sabotaged: str) -> None:
    assert "Backbone 'pebblenet_damaged': damaged.safetensors has SHA-256" in sabotaged
    assert "The file was changed or damaged: restore it" in sabotaged
    assert "Traceback" not in sabotaged


@pytest.mark.slow
def test_the_installed_package_brings_the_architecture(sabotaged: str, site: Path) -> None:
    assert (site / "pebblenet" / "pebblenet.safetensors").is_file()
    row = r"^pebblenet_untrained +knn .* no reference$"
    assert re.search(row, sabotaged, re.MULTILINE), sabotaged


def test_every_case_of_the_scale_has_a_reference() -> None:
    catalog = load_catalog([EXAMPLE / "bob.yaml"])
    store = ReferenceStore(EXAMPLE / "references")
    for case in cases(catalog):
        stored = store.find(case)
        assert stored is not None, case.setting
        reference, _ = stored
        assert reference.protocol == case.protocol, case.setting
        assert reference.weights == case.backbone.identity["weights"], case.setting
        assert len(reference.values) == (case.reference_seeds if case.seeded else 1), case.setting


def test_the_entry_tells_the_truth() -> None:
    from bob.backbones.architecture import build_architecture

    catalog = load_catalog([EXAMPLE / "bob.yaml"])
    entry = parse_backbone("pebblenet", catalog)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        built = build_architecture(entry)
    assert built.num_features == entry.num_features
    assert built.strides == entry.strides
    assert built.parameters / 1e6 == pytest.approx(entry.parameters_m, abs=5e-5)
    assert entry.weights is not None
    assert digest_of_file(Path(entry.weights.file)) == entry.weights.sha256


COLLECT = """
import shlex, sys, pytest
for command in sys.argv[1:]:
    program, *words = shlex.split(command)
    status = pytest.main([*words, *([] if "-q" in words else ["-q"]), "--collect-only"])
    print(f"{command} -> {status:d}")
"""


def test_commands_of_the_readme_select_cases(run: Run, repository: Path) -> None:
    commands = [line for line in dict.fromkeys(COMMANDS) if line.startswith("pytest")]
    assert len(commands) > 5
    done = run(repository, "-c", COLLECT, *commands)
    rest = done.stdout
    for command in commands:
        collected, end, rest = rest.partition(f"{command} -> 0\n")
        assert end, done.stdout + done.stderr
        assert "[pebblenet" in collected, command


def test_other_commands_of_the_readme_exist(run: Run, repository: Path) -> None:
    further = [shlex.split(line) for line in COMMANDS if not line.startswith("pytest")]
    assert {words[0] for words in further} == {".", "bob", "git", "pip", "python", "python3"}
    for program, *words in further:
        if program == "bob":
            # The pages of `bob ui` stay until they are closed.
            done = run(
                repository, "-m", "bob.cli", *words, *(["--help"] if words == ["ui"] else [])
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif program == "python":
            done = run(repository, "-m", "py_compile", *words)
            assert done.returncode == 0, done.stdout + done.stderr
        elif program == "git":
            assert words[0] == "add"
            assert all((repository / path).exists() for path in words[1:]), words


def test_ci_runs_what_the_readme_says() -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "battle.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["smoke"]["steps"] if "run" in step]
    gauntlet = next(step for step in steps if step.startswith("pytest"))
    assert gauntlet in COMMANDS
    settings = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert settings["tool"]["pytest"]["ini_options"]["testpaths"] == ["suites"]


def cases(catalog: Catalog) -> tuple[bob.case.Case, ...]:
    from bob.plan import Plan, Selection

    return Plan(catalog, Selection(scale="smoke", backbones=("pebblenet",))).all_cases()
