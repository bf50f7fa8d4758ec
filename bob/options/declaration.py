"""Every option, declared once. Imports nothing heavy."""

from __future__ import annotations

from bob.cost.table import DEFAULT_GPU
from bob.options import parse
from bob.options.option import Option
from bob.places import FEATURES
from bob.protocols.detection import ENGINES

_TOLD = frozenset({"profile", "compare", "report", "export"})
"""Commands that tell what was run."""
_CATALOG = _TOLD | {"list", "plan", "check", "show", "doctor", "datasets", "import"}
_RECORD = _TOLD | {"doctor", "sync", "ui", "check", "summary", "show"}
_PLAN = frozenset({"plan", "check"})
_CASES = _PLAN | {"show"}
"""Commands that take what makes up a case."""
_CHECK = frozenset({"check"})

OPTIONS = (
    Option(
        "--backbone", "bob_backbones", parse=parse.words, kind="linelist", metavar="SPEC",
        help="run this backbone instead of the scale's own: a catalog key, timm:NAME, "
        "package.module:factory or FILE,model=NAME, with optional ,key=value; repeatable",
        table="run this one instead of the scale's own; repeatable", commands=_CASES,
    ),
    Option(
        "--checkpoint", "bob_checkpoint", "load this file into the one backbone that --backbone "
        "names, as NAME,checkpoint=FILE does", parse.word, metavar="FILE", ini=False, repeat=False,
        table="load this file into the one backbone that is named",
    ),
    Option(
        "--scale", "bob_scale", "scale of the cases, or a catalog file that holds one", parse.word,
        "smoke", metavar="NAME",
        commands=_TOLD | {"list", "plan", "check", "show", "datasets"},
        table="which tasks, datasets and recipes (`smoke`); or a catalog file that holds one scale",
    ),
    Option(
        "--seeds", "bob_seeds", "seeds a case runs (1; references: 8)", parse.count_if_any,
        metavar="N", commands=_PLAN, table="seeds a case runs and averages (1; 8 for references)",
    ),
    Option(
        "--base-seed", "bob_base_seed", "first seed", parse.whole_number(0), "0", metavar="N",
        table="first seed (0)", commands=_PLAN,
    ),
    Option(
        "--same-seed", "bob_same_seed", "on a machine like the reference's, run a seed of the "
        "reference first: equal values mean that nothing has changed (auto; not with --seeds or "
        "--base-seed), or never (off)", parse.word, "auto", choices=("auto", "off"),
        commands=_CHECK,
        table="run [a seed of the reference](docs/bands.md#the-reference-s-own-seed) first where "
        "the machine is like the reference's: `auto`, `off`", shown="--same-seed=MODE",
    ),
    Option(
        "--bands", "bob_bands", "hold scores against references (check), or write those that are "
        "missing (new), that failed (failed), or every one (all)", parse.word, "check",
        choices=("check", "new", "failed", "all"), ini=False, repeat=False, commands=_CHECK,
        table="`check`, or write references: `new`, `failed`, `all`", shown="--bands=MODE",
    ),
    Option(
        "--require-bands", "bob_require_bands", "fail cases that have no reference", parse.switch,
        kind="bool",
    ),
    Option(
        "--resume", "bob_resume", "reuse results of earlier sessions of the same run key instead "
        "of running their cases again", parse.switch, kind="bool", repeat=False,
        table="[reuse results](docs/resume.md) of earlier sessions, and run what is missing",
    ),
    Option(
        "--references", "bob_references", "folder of this repository's own reference files",
        parse.folder, "references", metavar="DIR", table="your own reference files (`references/`)",
        commands=_TOLD | {"list", "plan", "check"},
    ),
    Option(
        "--catalog", "bob_catalog", "further catalog file; repeatable", parse.catalog_files,
        kind="linelist", metavar="FILE", field="catalogs", commands=_CATALOG,
        table="further backbones, datasets and scales",
    ),
    Option(
        "--tracking-uri", "bob_tracking_uri", "MLflow store (mlruns/mlflow.db)", parse.word,
        metavar="URI", env="MLFLOW_TRACKING_URI", commands=_RECORD,
        table="MLflow store (`mlruns/mlflow.db`)",
    ),
    Option(
        "--dataset", "bob_datasets", parse=parse.words, kind="linelist", metavar="SPEC",
        help="run on this dataset instead of the scale's own: a catalog key, "
        "folder:FOLDER (images in class folders), coco:FOLDER or hf:NAME, with optional "
        ",key=value; repeatable", commands=_CASES,
        table="run on this one instead: a catalog key, `folder:FOLDER`, `coco:FOLDER` or "
        "`hf:NAME`; repeatable",
    ),
    Option(
        "--engine", "bob_engine", f"engine of detection tasks: {' or '.join(ENGINES)} (the "
        "scale's own)", parse.word, choices=ENGINES, commands=_CASES, shown="--engine=NAME",
        table=f"engine of detection: {' or '.join(f'`{name}`' for name in ENGINES)} (the scale's "
        "own)",
    ),
    Option(
        "--image-size", "bob_image_size", "height and width that images are fed at, in place of "
        "the scale's; own for each backbone's own", parse.image_size, metavar="PIXELS",
        commands=_CASES, table="height and width that images are "
        "[fed at](docs/own-data.md#image-size); `own` for each backbone's own",
    ),
    Option(
        "--grid", "bob_grid", "choose learning rate and weight decay from the scale's grid, on "
        "held-out train images, for tasks that have one", parse.switch, kind="bool",
        commands=_CASES, table="choose learning rate and weight decay from the scale's "
        "[grid](docs/protocols.md#a-grid-of-learning-rates-and-weight-decays), on held-out train "
        "images",
    ),
    Option(
        "--executor", "bob_executor", "where cases run: inline (this process), process (one for "
        "each case) or ray (a cluster)", parse.word, "inline", metavar="NAME",
        table="where cases [run](docs/running.md): `inline` (in this process) or `process` (one "
        "for each case) or `ray` (a cluster)",
    ),
    Option(
        "--executor-option", "bob_executor_options", parse=parse.pairs, kind="linelist",
        help="a setting of the executor, as its own documents name it; repeatable",
        metavar="KEY=VALUE", table="a setting of the executor; repeatable",
    ),
    Option(
        "--ray-address", "bob_ray_address", "address of the Ray cluster of --executor=ray: "
        "HOST:PORT, auto for the one that runs on this machine, or local for one that is started "
        "for the session", parse.word, "local", metavar="ADDRESS", env="RAY_ADDRESS",
        table="the Ray cluster of `--executor=ray`: `HOST:PORT`, `auto`, or `local` for one that "
        "is started for the session",
    ),
    Option(
        "--case-timeout", "bob_case_timeout", "stop a case that takes longer than this, such as "
        "90s, 20m or 2h; auto: one from which nothing has been heard for an hour, or for as long "
        "as the whole case is estimated to take on the reference GPU; off: never. Needs an "
        "executor that can, such as process", parse.time_limit, "auto", metavar="TIME",
        table="stop a case that takes longer (`90s`, `20m`, `2h`); `auto`: that is "
        "[silent](docs/running.md#time-limits) for long; `off`. Needs `--executor=process`",
    ),
    Option(
        "--save-every", "bob_save_every", "least minutes between two checkpoints of a case that "
        "trains, so that it can go on when it is stopped; off writes none", parse.minutes_if_any,
        "5", metavar="MINUTES", repeat=False,
        table="least minutes between two [checkpoints](docs/running.md#what-a-stopped-case-keeps) "
        "of a case that trains (5); `off` writes none",
    ),
    Option(
        "--accelerator", "bob_accelerator", "device: auto, cpu, cuda, mps", parse.word, "auto",
        choices=("auto", "cpu", "cuda", "mps"), table="device: `auto`, `cpu`, `cuda`, `mps`",
        shown="--accelerator=NAME",
    ),
    Option(
        "--devices", "bob_devices", "devices of one case: each has an equal share of every batch",
        parse.whole_number(1), "1", metavar="N",
        table="[devices of one case](docs/running.md#several-devices-for-one-case): each has an "
        "equal share of every batch (1)",
    ),
    Option(
        "--precision", "bob_precision", "auto, or a Lightning Fabric precision", parse.word, "auto",
        shown="--precision=NAME", table="`auto`, or as Lightning Fabric names it",
    ),
    Option(
        "--features", "bob_features", "folder of the feature store (bob/features in the user's "
        "cache)", parse.folder_if_any, metavar="DIR", env=FEATURES,
        commands=_PLAN | {"features"},
        table="the [feature store](docs/features.md) (`bob/features` in the user's cache)",
    ),
    Option(
        "--features-limit", "bob_features_limit",
        "size the feature store is kept within, least recently used first to go", parse.size,
        "50GB", metavar="SIZE", table="what the store is kept within (50GB)",
    ),
    Option(
        "--max-gpu-hours", "bob_max_gpu_hours",
        "refuse a selection that is estimated to take longer; `bob plan` shows the cases, and "
        "exits with status 1", parse.hours_if_any, metavar="X", repeat=False, commands=_PLAN,
        table="refuse a selection that is [estimated](docs/plan.md) to take longer",
    ),
    Option(
        "--reference-gpu", "bob_reference_gpu", f"GPU of the estimate ({DEFAULT_GPU})", parse.gpu,
        DEFAULT_GPU, metavar="NAME", repeat=False, commands=_PLAN, alias="--gpu",
        table=f"GPU of that estimate ({DEFAULT_GPU})",
    ),
    Option(
        "--download", "bob_download", "fetch what the selected cases lack of their datasets into "
        "the data root first", parse.switch, kind="bool", repeat=False, ini=False,
        table="[fetch](docs/datasets.md#fetching) the datasets that are missing first",
    ),
    Option(
        "--workers", "bob_workers", "loader processes for image files", parse.whole_number(0), "2",
        metavar="N",
    ),
    Option(
        "--progress", "bob_progress", "progress of the running cases: live on a terminal, lines "
        "every 30 s elsewhere, or off", parse.word, "auto",
        choices=("auto", "live", "lines", "off"),
        repeat=False, table="`live`, `lines` or `off`", shown="--progress=MODE",
    ),
)  # fmt: skip


def option_table() -> str:
    """The options as a Markdown table, as README.md has it."""
    rows = ["| option | ini key | variable | meaning |", "| --- | --- | --- | --- |"]
    for option in OPTIONS:
        shown = option.shown or "=".join(filter(None, (option.flag, option.metavar)))
        key = f"`{option.dest}`" if option.ini else ""
        variable = f"`{option.env}`" if option.env else ""
        rows.append(f"| `{shown}` | {key} | {variable} | {option.table or option.help} |")
    return "\n".join(rows)
