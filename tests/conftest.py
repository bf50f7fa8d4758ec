"""Shared parts: a fast real scale, a shared MLflow store, and fast tests first."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from bob.case import Case, Result
from bob.catalog import Catalog, load_catalog, parse_dataset
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.tracking import Destination, Tracker, resolve_store

if TYPE_CHECKING:
    from tests.replay_parts import Outcome, Undisturbed

# as pytest does for the asserts of test files
pytest.register_assert_rewrite(
    "tests.checkpoint_parts",
    "tests.coco_parts",
    "tests.replay_parts",
    "tests.resume_parts",
    "tests.store_parts",
)

collect_ignore = ["acme"]  # a repository of its own, which test_extension.py installs and runs

TINY = """
scales:
  tiny:
    description: seconds for a dozen cases; real digits, real training
    tasks:
      finetune:
        datasets: [digits]
        margin: 0.005
        reference_seeds: 4
        recipe: {epochs: 2, batch_size: 100, image_size: 32, lr: 0.05, layer_decay: 1.0,
          warmup_epochs: 0, warmup_lr: 0.0, drop_path: 0.0, label_smoothing: 0.0, mixup: 0.0,
          cutmix: 0.0, rand_augment: null, color_jitter: 0.0, crop_scale: 1.0, hflip: 0.0,
          random_erase: 0.0}
backbones:
  pixels_coarse:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 4},
     pretraining: none, scales: [tiny]}
  pixels_fine:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 8},
     pretraining: none, scales: [tiny]}
"""

SUITE_OF_TASK = """
@pytest.mark.{task}
def test_{task}(case, battle):
    battle(case)
"""


def suite_of(*tasks: str) -> str:
    """A suite of one test for each task."""
    return "import pytest\n" + "".join(SUITE_OF_TASK.format(task=task) for task in tasks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds; runs last")
    config.addinivalue_line("markers", "real: on released weights and public photographs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session", autouse=True)
def feature_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A feature store and other folders of this run's own, for its subprocesses too.

    What a CPU takes is measured once for all workers.
    """
    folder = tmp_path_factory.mktemp("features")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOB_FEATURES", str(folder))
        patch.setenv("BOB_SCENES", str(tmp_path_factory.mktemp("scenes")))
        patch.setenv("BOB_CALIBRATION", str(shared / "calibration"))
        patch.setenv("BOB_MICRO_BATCHES", str(tmp_path_factory.mktemp("micro-batches")))
        # commands that messages print say ``python`` and ``bob``
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield folder


@pytest.fixture(scope="session")
def tiny_catalog_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def catalog(tiny_catalog_file: Path) -> Catalog:
    return load_catalog([tiny_catalog_file])


@pytest.fixture(scope="session")
def tiny_case(catalog: Catalog) -> Case:
    return Plan(catalog, Selection(scale="tiny")).cases("finetune")[0]


@pytest.fixture
def rude_case(catalog: Catalog) -> Callable[[str], Case]:
    """Makes a tiny case of a backbone of ``tests/rude_factories.py``."""

    def make(spec: str) -> Case:
        selection = Selection(scale="tiny", backbones=(f"tests.rude_factories:{spec}",))
        return Plan(catalog, selection).cases("finetune")[0]

    return make


@pytest.fixture(scope="session")
def smoke_cases(catalog: Catalog) -> dict[str, Case]:
    cases = Plan(catalog, Selection(scale="smoke")).cases("finetune")
    return {case.backbone.key: case for case in cases}


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One SQLite store for every project that does not look at its own; a schema takes seconds.

    It also imports once what a run imports: pytester forgets modules that appear during a run, and
    torch cannot be imported twice. Pictures of equal results are drawn once.
    """
    import faster_coco_eval  # noqa: F401
    import torchvision.transforms.v2  # noqa: F401

    from bob.objects import import_object
    from tests.session_parts import draw_once, import_modules

    import_modules()
    for task in PROTOCOLS.values():
        import_object(task.runner, what=task.name)
    for dataset in load_catalog().datasets.values():
        import_object(dataset.loader, what=dataset.key)

    with contextlib.suppress(ImportError):  # replaces the standard library's finder when imported
        import importlib_metadata  # noqa: F401

    folder = tmp_path_factory.mktemp("mlflow")
    store = resolve_store(folder, f"sqlite:///{folder / 'mlflow.db'}")
    tracker = Tracker(store, "tiny", folder)
    assert tracker.client
    shutil.copy(folder / "mlflow.db", folder / "empty.db")
    tracker.start_session({})
    with pytest.MonkeyPatch.context() as patch:
        draw_once(patch)
        yield store.uri


@pytest.fixture
def empty_store(shared_store: str) -> Callable[[Path], str]:
    """Makes a new SQLite store of no runs; its schema is copied, which takes no time."""
    template = Path(shared_store.removeprefix("sqlite:///")).with_name("empty.db")

    def make(path: Path) -> str:
        shutil.copy(template, path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture
def local_store(tmp_path: Path, empty_store: Callable[[Path], str]) -> Destination:
    """A store of the test's own, of no runs."""
    return Destination(
        empty_store(tmp_path / "local.db"), tmp_path / "artifacts", tmp_path / "ledger"
    )


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of a real server."""
    from tests.store_parts import running_server

    with running_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def outcome(
    shared_store: str, tiny_case: Case, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    from tests.replay_parts import measured

    return measured(tiny_case, tmp_path_factory.mktemp("outcome"))


@pytest.fixture(scope="session")
def undisturbed(
    shared_store: str, outcome: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """What a store says that was never disturbed, by seeds of the session."""
    from tests.replay_parts import Replay

    folder = tmp_path_factory.mktemp("undisturbed")
    store = Destination(shared_store, folder / "artifacts", folder / "ledger")
    return {seeds: Replay(store, outcome, seeds=seeds).whole().facts() for seeds in (1, 2)}


@pytest.fixture
def tracker(shared_store: str, tmp_path: Path) -> Tracker:
    """A session in the shared store, open."""
    made = Tracker(resolve_store(tmp_path, shared_store), "tiny", tmp_path)
    made.start_session({})
    return made


@pytest.fixture
def project(
    shared_store: str,
    pytester: pytest.Pytester,
    tiny_catalog_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> pytest.Pytester:
    """A repository of its own with one suite at the tiny scale."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytester.makeini(
        textwrap.dedent(
            f"""
            [pytest]
            bob_catalog = {tiny_catalog_file}
            bob_scale = tiny
            bob_tracking_uri = {shared_store}
            bob_same_seed = off
            """
        )
    )
    pytester.makepyfile(test_suite=suite_of("finetune"))
    return pytester


@pytest.fixture
def own_store(project: pytest.Pytester, empty_store: Callable[[Path], str]) -> tuple[str, str]:
    """The project's own store, of no runs, in the words that name it."""
    return "--tracking-uri", empty_store(project.path / "mlflow.db")


MakeResult = Callable[..., Result]


@pytest.fixture
def make_result() -> MakeResult:
    def make(
        case: Case,
        top1: float,
        *,
        test_loss: float = 0.3,
        train_loss: float = 0.5,
        weights: str = "w",
    ) -> Result:
        return Result(
            case=case,
            metrics={
                "top1": top1,
                "top5": 1.0,
                "test_loss": test_loss,
                "train_loss": train_loss,
            },
            weights_digest=weights,
        )

    return make


@pytest.fixture(scope="session")
def cases(catalog: Catalog) -> dict[str, Case]:
    """The smoke cases by ``<task> <backbone>``; of several datasets the last one's."""
    plan = Plan(catalog, Selection())
    return {f"{case.task} {case.backbone.key}": case for case in plan.all_cases()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of the test's own, empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("BOB_DATA", str(folder))
    return folder


@pytest.fixture
def loaded(catalog: Catalog) -> Callable[[str], Any]:
    """Loads a classification dataset by what ``--dataset`` would say."""

    def load(spec: str) -> Any:
        from bob.datasets import ClassificationData, load_dataset

        data = load_dataset(parse_dataset(spec, catalog))
        assert isinstance(data, ClassificationData)
        return data

    return load
