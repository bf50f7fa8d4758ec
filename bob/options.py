"""Command-line options and their ini equivalents. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bob.cost.table import DEFAULT_GPU, check_gpu
from bob.errors import BobError
from bob.sizes import parse_size


@dataclass(frozen=True)
class Option:
    """One option, declared once.

    pytest's parser and ini file, the command that repeats a case and the table in README.md follow
    from it.

    Attributes:
        dest: Name of the ini key and of pytest's option; the field of ``Options`` is the same
            without ``bob_``.
        help: For ``pytest --help``.
        kind: ``string``, ``bool``, or ``linelist`` for one that may be repeated.
        ini: Whether the ini file may say it.
        repeat: Whether a case that is run again needs it: it changes what is run or where to.
        planned: Whether ``bob plan`` takes it too.
        table: What README.md says, in Markdown; the help where it is empty.
        shown: How README.md writes flag and value; from flag and metavar where it is empty.
    """

    flag: str
    dest: str
    help: str
    default: str = ""
    kind: str = "string"
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    ini: bool = True
    repeat: bool = True
    planned: bool = False
    table: str = ""
    shown: str = ""

    @property
    def field(self) -> str:
        """Name in ``Options``."""
        return {"bob_catalog": "catalogs"}.get(self.dest, self.dest.removeprefix("bob_"))


OPTIONS = (
    Option(
        "--backbone", "bob_backbones", kind="linelist", metavar="SPEC", planned=True,
        help="run this backbone instead of the scale's own: a catalog key, timm:NAME, "
        "package.module:factory or FILE,model=NAME, with optional ,key=value; repeatable",
        table="run this one instead of the scale's own; repeatable",
    ),
    Option(
        "--checkpoint", "bob_checkpoint", "load this file into the one backbone that --backbone "
        "names, as NAME,checkpoint=FILE does", metavar="FILE", ini=False, repeat=False,
        table="load this file into the one backbone that is named", shown="--checkpoint=FILE",
    ),
    Option(
        "--scale", "bob_scale", "scale of the cases, or a catalog file that holds one", "smoke",
        metavar="NAME", planned=True,
        table="which tasks, datasets and recipes (`smoke`); or a catalog file that holds one scale",
    ),
    Option(
        "--seeds", "bob_seeds", "seeds a case runs (1; references: 8)", metavar="N", planned=True,
        table="seeds a case runs and averages (1; 8 for references)",
    ),
    Option(
        "--base-seed", "bob_base_seed", "first seed", "0", metavar="N", planned=True,
        table="first seed (0)",
    ),
    Option(
        "--bands", "bob_bands", "hold scores against references (check), or write those that are "
        "missing (new), that failed (failed), or every one (all)",
        "check", choices=("check", "new", "failed", "all"), ini=False, repeat=False,
        table="`check`, or write references: `new`, `failed`, `all`", shown="--bands MODE",
    ),
    Option(
        "--require-bands", "bob_require_bands", "fail cases that have no reference", kind="bool",
        repeat=False,
    ),
    Option(
        "--references", "bob_references", "folder of this repository's own reference files",
        "references", metavar="DIR", planned=True, table="your own reference files (`references/`)",
    ),
    Option(
        "--catalog", "bob_catalog", "further catalog file; repeatable", kind="linelist",
        metavar="FILE", planned=True, table="further backbones, datasets and scales",
    ),
    Option(
        "--tracking-uri", "bob_tracking_uri",
        "MLflow store (MLFLOW_TRACKING_URI, else mlruns/mlflow.db)", metavar="URI",
        table="MLflow store (`MLFLOW_TRACKING_URI`, else `mlruns/mlflow.db`)",
    ),
    Option(
        "--dataset", "bob_datasets", kind="linelist", metavar="SPEC", planned=True,
        help="run on this dataset instead of the scale's own: a catalog key, "
        "folder:FOLDER (images in class folders), coco:FOLDER or hf:NAME, with optional "
        ",key=value; repeatable",
        table="run on this one instead: a catalog key, `folder:FOLDER`, `coco:FOLDER` or "
        "`hf:NAME`; repeatable",
    ),
    Option(
        "--engine", "bob_engine", "engine of detection tasks: torchvision or detectron2 (the "
        "scale's own)", choices=("torchvision", "detectron2"), planned=True, shown="--engine NAME",
        table="engine of detection: `torchvision` or `detectron2` (the scale's own)",
    ),
    Option(
        "--grid", "bob_grid", "choose learning rate and weight decay from the scale's grid, on "
        "held-out train images, for tasks that have one", kind="bool", planned=True,
        table="choose learning rate and weight decay from the scale's "
        "[grid](docs/protocols.md#a-grid-of-learning-rates-and-weight-decays), on held-out train "
        "images",
    ),
    Option(
        "--executor", "bob_executor", "where cases run", "inline", metavar="NAME",
        table="where cases run (`inline`)",
    ),
    Option(
        "--executor-option", "bob_executor_options", kind="linelist", metavar="KEY=VALUE",
        help="a setting of the executor, as its own documents name it; repeatable",
        table="a setting of the executor; repeatable",
    ),
    Option(
        "--accelerator", "bob_accelerator", "device: auto, cpu, cuda, mps", "auto",
        choices=("auto", "cpu", "cuda", "mps"), table="device: `auto`, `cpu`, `cuda`, `mps`",
        shown="--accelerator NAME",
    ),
    Option(
        "--precision", "bob_precision", "auto, or a Lightning Fabric precision", "auto",
        shown="--precision NAME", table="`auto`, or as Lightning Fabric names it",
    ),
    Option(
        "--features", "bob_features",
        "folder of the feature store (BOB_FEATURES, else bob/features in the user's cache)",
        metavar="DIR", planned=True,
        table="the [feature store](docs/features.md) (`BOB_FEATURES`, else the user's cache)",
    ),
    Option(
        "--features-limit", "bob_features_limit",
        "size the feature store is kept within, least recently used first to go", "50GB",
        metavar="SIZE", table="what the store is kept within (50GB)",
    ),
    Option(
        "--max-gpu-hours", "bob_max_gpu_hours",
        "refuse to start a selection that is estimated to take longer; `bob plan` shows the cases",
        metavar="X", repeat=False, planned=True,
        table="refuse a selection that is [estimated](docs/plan.md) to take longer",
    ),
    Option(
        "--reference-gpu", "bob_reference_gpu", "GPU of that estimate", DEFAULT_GPU,
        metavar="NAME", repeat=False, table=f"GPU of that estimate ({DEFAULT_GPU})",
    ),
    Option(
        "--workers", "bob_workers", "loader processes for image files", "2", metavar="N",
    ),
    Option(
        "--progress", "bob_progress", "progress of the running case: live on a terminal, lines "
        "every 30 s elsewhere, or off", "auto", choices=("auto", "live", "lines", "off"),
        repeat=False, table="`live`, `lines` or `off`", shown="--progress MODE",
    ),
)  # fmt: skip


def option_table() -> str:
    """The options as a Markdown table, as README.md has it."""
    rows = ["| option | ini key | meaning |", "| --- | --- | --- |"]
    for option in OPTIONS:
        shown = option.shown or " ".join(filter(None, (option.flag, option.metavar)))
        key = f"`{option.dest}`" if option.ini else ""
        rows.append(f"| `{shown}` | {key} | {option.table or option.help} |")
    return "\n".join(rows)


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini key."""
    group = parser.getgroup("bob", "battle of the backbones")
    for option in OPTIONS:
        ini = f" (ini: {option.dest})" if option.ini else ""
        text = option.help + ini
        if option.kind == "bool":
            group.addoption(
                option.flag, dest=option.dest, action="store_true", default=None, help=text
            )
        elif option.kind == "linelist":
            group.addoption(
                option.flag,
                dest=option.dest,
                action="append",
                default=None,
                metavar=option.metavar,
                help=text,
            )
        else:
            group.addoption(
                option.flag,
                dest=option.dest,
                default=None,
                metavar=option.metavar,
                choices=option.choices,
                help=text,
            )
        if option.ini:
            kinds = {"bool": "bool", "linelist": "linelist"}
            default = {"bool": False, "linelist": []}.get(option.kind, "")
            parser.addini(
                option.dest,
                option.help,
                type=kinds.get(option.kind, "string"),  # type: ignore[arg-type]
                default=default,
            )


def given(config: pytest.Config) -> list[str]:
    """Flags of this plugin that stand on the command line."""
    return [option.flag for option in OPTIONS if config.getoption(option.dest, None) is not None]


def repeated_words(config: pytest.Config) -> list[str]:
    """What stands on the command line and a repeat of one case needs again, as words.

    A file of ``--checkpoint`` is in the backbone's name by then.
    """
    words: list[str] = []
    for option in OPTIONS:
        value = config.getoption(option.dest, None)
        if value is None or not option.repeat or option.dest == "bob_backbones":
            continue
        if option.kind == "bool":
            words.append(option.flag)
        else:
            for text in value if option.kind == "linelist" else [value]:
                words += [option.flag, str(text)]
    return words


@dataclass(frozen=True)
class Options:
    """Settings of one session, command line before ini before default.

    Attributes:
        seeds: None when nobody named a number.
        backbones: What was named, the file of ``--checkpoint`` included.
        references: Folder of reference files, absolute.
        catalogs: Further catalog files, absolute; ``bob.yaml`` beside the root ``conftest.py``
            among them.
        executor_options: Settings of the executor, by name.
        max_gpu_hours: None for no limit.
    """

    scale: str
    backbones: tuple[str, ...]
    datasets: tuple[str, ...]
    engine: str
    grid: bool
    seeds: int | None
    base_seed: int
    bands: str
    require_bands: bool
    references: Path
    catalogs: tuple[Path, ...]
    executor: str
    executor_options: Mapping[str, str]
    tracking_uri: str
    accelerator: str
    precision: str
    workers: int
    features: str
    features_limit: int
    progress: str
    max_gpu_hours: float | None
    reference_gpu: str


def read_options(config: pytest.Config) -> Options:
    """Gather the options of a session.

    Raises:
        BobError: A number is not a number, a choice in the ini file is unknown, or
            ``--checkpoint`` does not go with one backbone.
    """
    import os

    from bob.catalog import with_checkpoint
    from bob.catalog.scale_file import scale_and_file

    _check_root(config)

    def lines(dest: str) -> tuple[str, ...]:
        return tuple(config.getoption(dest) or config.getini(dest))

    seeds = _text(config, "bob_seeds")
    catalogs = config.getoption("bob_catalog")
    base = config.invocation_params.dir if catalogs else config.rootpath
    found = tuple(path for path in [config.rootpath / "bob.yaml"] if path.is_file())
    scale, own_file = scale_and_file(_text(config, "bob_scale"), _scale_base(config))
    references = config.getoption("bob_references")
    features = config.getoption("bob_features")
    if not features and config.getini("bob_features"):
        features = config.rootpath / config.getini("bob_features")
    return Options(
        scale=scale,
        backbones=with_checkpoint(lines("bob_backbones"), config.getoption("bob_checkpoint")),
        datasets=lines("bob_datasets"),
        engine=_choice(config, "bob_engine"),
        grid=bool(config.getoption("bob_grid") or config.getini("bob_grid")),
        seeds=_number("--seeds", seeds, 1) if seeds else None,
        base_seed=_number("--base-seed", _text(config, "bob_base_seed"), 0),
        bands=config.getoption("bob_bands") or "check",
        require_bands=bool(
            config.getoption("bob_require_bands") or config.getini("bob_require_bands")
        ),
        references=(
            config.invocation_params.dir / references
            if references
            else config.rootpath / _text(config, "bob_references")
        ),
        catalogs=_distinct(*found, *(base / name for name in lines("bob_catalog")), *own_file),
        executor=_text(config, "bob_executor"),
        executor_options=_pairs("--executor-option", lines("bob_executor_options")),
        tracking_uri=_text(config, "bob_tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI", ""),
        accelerator=_choice(config, "bob_accelerator"),
        precision=_text(config, "bob_precision"),
        workers=_number("--workers", _text(config, "bob_workers"), 0),
        features=str(config.invocation_params.dir / features) if features else "",
        features_limit=parse_size(_text(config, "bob_features_limit"), what="--features-limit"),
        progress=_choice(config, "bob_progress"),
        max_gpu_hours=_hours(config),
        reference_gpu=check_gpu(_text(config, "bob_reference_gpu")),
    )


def _check_root(config: pytest.Config) -> None:
    """Paths behind options of plugins pass for tests when pytest looks for its root folder."""
    if "--checkpoint" not in config.invocation_params.args:
        return
    here = config.invocation_params.dir
    own = {"pytest.ini": "[pytest]", "pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]",
           "setup.cfg": "[tool:pytest]"}  # fmt: skip
    passed_over = config.inipath is None and any(
        path.is_file() and section in path.read_text(encoding="utf-8", errors="replace")
        for folder in (here, *here.parents)
        for path, section in ((folder / name, section) for name, section in own.items())
    )
    if passed_over or not here.is_relative_to(config.rootpath):
        raise BobError(
            f"pytest took {config.rootpath} for its root folder because of the path behind "
            "--checkpoint. Write --checkpoint=FILE, with the sign."
        )


def _distinct(*paths: Path) -> tuple[Path, ...]:
    return tuple({path.resolve(): path for path in paths}.values())


def _option(dest: str) -> Option:
    return next(option for option in OPTIONS if option.dest == dest)


def _text(config: pytest.Config, dest: str) -> str:
    return str(config.getoption(dest) or config.getini(dest) or _option(dest).default)


def _choice(config: pytest.Config, dest: str) -> str:
    value, option = _text(config, dest), _option(dest)
    if option.choices and value and value not in option.choices:
        raise BobError(f"{dest} = {value!r} in the ini file; known: {', '.join(option.choices)}.")
    return value


def _scale_base(config: pytest.Config) -> Path:
    return config.invocation_params.dir if config.getoption("bob_scale") else config.rootpath


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise BobError(f"{flag} {text!r}: expected KEY=VALUE, such as workers=4.")
        if key in pairs:
            raise BobError(f"{flag}: {key!r} is given twice ({pairs[key]!r} and {value!r}).")
        pairs[key] = value
    return pairs


def _hours(config: pytest.Config) -> float | None:
    text = _text(config, "bob_max_gpu_hours")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise BobError(f"--max-gpu-hours {text!r}: expected a number of hours, such as 24.")
    return value


def _number(flag: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise BobError(f"{flag} {text!r}: expected a whole number of at least {least}.")
    return value
