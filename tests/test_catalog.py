from __future__ import annotations

from pathlib import Path

import pytest

from bob.catalog import Catalog, load_catalog, parse_backbone
from bob.errors import BobError
from bob.hashing import digest_of_file
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from tests.time_limit import within


def error_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BobError) as caught:
        load_catalog([path])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("backbones:\n  a: {family: x\n", 3, "not valid YAML"),
        ("- a\n", 1, "expected a mapping"),
        ("backbones:\n  a:\n    family: x\n    sauce: timm:y\n", 2, "source: Field required"),
        ("backbones:\n  a:\n    family: x\n    source: timm:y\n    extra: 1\n", 5, "unknown key"),
        ("backbones:\n  a:\n    family: x\n    source: y\n", 4, "expected 'timm:NAME'"),
        (
            "backbones:\n  a:\n    family: x\n    source: timm:y\n    scales: [smok]\n",
            5,
            "Did you mean 'smoke'",
        ),
        ("backbones:\n  swin_micro_glyphs: {family: x, source: 'timm:y'}\n", 2, "already declared"),
        ("scales:\n  s:\n    tasks:\n      finetun: {datasets: [digits]}\n", 4, "'finetune'"),
        ("scales:\n  s:\n    tasks:\n      finetune:\n        datasets: [digit]\n", 5, "'digits'"),
        (
            "scales:\n  s:\n    tasks:\n      finetune:\n        datasets: [digits]\n"
            "        recipe:\n          epochs: 3\n          lr: -1\n",
            8,
            "recipe.lr: Input should be greater than 0",
        ),
        (
            "scales:\n  s:\n    tasks:\n      finetune:\n        datasets: [digits]\n"
            "        families:\n          vit: {epoch: 3}\n",
            7,
            "unknown key",
        ),
        ("datasets:\n  d: {loader: 'a:b', sha256: abc, classes: 2, test_size: 9}\n", 2, "sha256"),
        ("datasets:\n", 1, "datasets"),
        ("margins:\n  knm: {top1: 0.1}\n", 2, "Did you mean 'knn'"),
        (
            "scales:\n  s:\n    tasks:\n      knn:\n        datasets: [digits]\n"
            "        margins:\n          top_1: 0.1\n",
            7,
            "margins.top_1: Unknown judged metric of knn 'top_1'. Did you mean 'top1'",
        ),
        (
            "scales:\n  s:\n    tasks:\n      knn:\n        datasets: [digits]\n"
            "        margins:\n          top1: 0.1\n          vote_share: -0.1\n",
            8,
            "margins.vote_share: Input should be greater than or equal to 0",
        ),
        ("margins:\n  knn:\n    top1: 0.1\n", 2, "already declared in"),
        ("margins:\n  knn:\n    top1: much\n", 3, "margins.knn.top1: Input should be a valid"),
        ("scales:\n  a: {}\nscales:\n  b: {}\n", 3, "already given on line 1"),
    ],
)
def test_malformed_file_names_line_and_key(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    message = error_of(tmp_path, text)
    assert f"mine.yaml:{line}:" in message
    assert words in message


LAUGHS = "a: &a [ha, ha]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{last}'] * 9)}]}}\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (LAUGHS, 6, "with its aliases it has more than 100,000 values"),
        (MERGES, 6, "with its aliases it has more than 100,000 values"),
        ("backbones: &a\n  x: *a\n", 1, "refers to itself"),
        ("scales: &a\n- 1\n- *a\n", 1, "refers to itself"),
        ("scales:\n  [a, b]: {}\n", 2, "a key is a list or mapping"),
        ("scales:\n  ? {a: b}\n  : {}\n", 2, "a key is a list or mapping"),
        ("scales:\n  s: 2026-13-45\n", 2, "'2026-13-45' is no timestamp"),
        ("scales:\n  2026-13-45: {}\n", 2, "'2026-13-45' is no timestamp"),
        ("scales:\n  s: 2026-11-28\n", 2, "read as a timestamp; write it in quotes"),
        (f"scales:\n  s: {'1' * 5000}\n", 2, "is too long a number"),
        (f"scales:\n  s: {'1' * 500}\n", 2, "is too large a number"),
        (f"scales:\n  s: 0x{'f' * 500}\n", 2, "is too large a number"),
        (f"scales:\n  s: 0{'7' * 9000}\n", 2, "is too long a number"),
        (f"scales:\n  s: {'1:' * 400}1\n", 2, "is too large a number"),
        (f"scales:\n  s: {'1:' * 100_000}1\n", 2, "is too long a number"),
        (f"scales:\n  ? {'1:' * 400}1\n  : {{}}\n", 2, "is too large a number"),
        (f"scales:\n  s: {'1:' * 400}1.5\n", 2, "is no float"),
        ("scales:\n  s: .nan\n", 2, "is no finite number"),
        ("scales:\n  s: 010\n", 2, "'010' is read as 8; write that"),
        ("scales:\n  s: -1:30\n", 2, "'-1:30' is read as -90; write that"),
        ("scales:\n  s: 1:30.5\n", 2, "'1:30.5' is read as 90.5; write that"),
        ("scales:\n  s: !!bool maybe\n", 2, "'maybe' is no bool"),
        ("scales:\n  s: !!timestamp soon\n", 2, "'soon' is no timestamp"),
        ("scales:\n  s: !!binary aGE=\n", 2, "read as a binary"),
        ("scales:\n  s: !!set {a, b}\n", 2, "no use for the tag 'set'"),
        ("scales:\n  s: !!python/object:os.system x\n", 2, "could not determine a constructor"),
        ("scales:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 60)), 51, "more than 50 deep"),
        (f"scales:\n  {'[' * 5000}\n", 2, "nest"),
    ],
)
def test_what_yaml_can_say_and_a_catalog_cannot(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with within(20):
        message = error_of(tmp_path, text)
    assert f"mine.yaml:{line}:" in message
    assert words in message
    assert len(message) < 500


def test_margins_of_a_protocol_name_its_judged_metrics(tmp_path: Path) -> None:
    """A file of margins of its own, as a package brings them, is checked as the packaged one is."""
    (tmp_path / "mine.yaml").write_text("margins:\n  knn:\n    top1: 0.1\n    top5: 0.1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bob.catalog.load.BUILTIN", ())
        with pytest.raises(BobError, match=r"mine\.yaml:4: margins\.knn\.top5: Unknown judged"):
            load_catalog([tmp_path / "mine.yaml"])


@pytest.mark.parametrize(
    ("said", "top1", "vote_share"),
    [
        ("", 0.005, 0.01),
        ("margin: 0.2", 0.2, 0.01),
        ("margin: 0.0", 0.0, 0.01),
        ("margins: {vote_share: 0.3}", 0.005, 0.3),
        ("margins: {top1: 0.4}", 0.4, 0.01),
        ("margin: 0.2, margins: {top1: 0.4, vote_share: 0.3}", 0.4, 0.3),
    ],
)
def test_margins_of_a_scale_go_before_the_packaged_ones(
    tmp_path: Path, said: str, top1: float, vote_share: float
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "scales:\n  s:\n    tasks:\n"
        f"      knn: {{datasets: [digits], recipe: {{image_size: 32}}, {said}}}\n"
    )
    plan = Plan(
        load_catalog([tmp_path / "mine.yaml"]),
        Selection(scale="s", backbones=("vit_micro_glyphs",)),
    )
    (case,) = plan.cases("knn")
    assert case.margins == {"top1": top1, "vote_share": vote_share}
    assert case.margin == top1
    (packaged,) = Plan(plan.catalog, Selection(backbones=("vit_micro_glyphs",))).cases("knn")
    assert (case.protocol, case.id) == (packaged.protocol, packaged.id)


def test_every_judged_metric_of_the_packaged_protocols_has_a_margin(catalog: Catalog) -> None:
    for name, spec in PROTOCOLS.items():
        assert catalog.margins[name].keys() == {judged.name for judged in spec.judged}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BobError, match=r"Cannot read catalog file .*none\.yaml"):
        load_catalog([tmp_path / "none.yaml"])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.backbone("swin_micro_glyph"), "Did you mean 'swin_micro_glyphs'"),
        (lambda c: c.dataset("digit"), "Did you mean 'digits'"),
        (lambda c: c.scale("smok"), "Did you mean 'smoke'"),
        (lambda c: Plan(c, Selection()).cases("fintune"), "Did you mean 'finetune'"),
    ],
)
def test_unknown_names_offer_the_nearest(catalog: Catalog, ask: object, message: str) -> None:
    with pytest.raises(BobError, match=message):
        ask(catalog)  # type: ignore[operator]


def test_shipped_weights_are_what_the_catalog_says(catalog: Catalog) -> None:
    entries = [
        entry for entry in catalog.backbones.values() if entry.weights and entry.weights.file
    ]
    assert len(entries) == 4
    for entry in entries:
        assert entry.weights is not None
        path = Path(entry.weights.file)
        assert path.stat().st_size <= 1_000_000
        assert digest_of_file(path) == entry.weights.sha256


def test_specs(catalog: Catalog, tmp_path: Path) -> None:
    entry = parse_backbone("timm:test_resnet,pretrained=false", catalog)
    assert entry.source == "timm:test_resnet"
    assert entry.arguments == {"pretrained": False}
    assert entry.family == "resnet"
    assert entry.pretraining == "random"

    entry = parse_backbone("my.models:make,depth=3,rate=1e-2,mode=fast,name=mine", catalog)
    assert (entry.key, entry.source) == ("mine", "my.models:make")
    assert entry.arguments == {"depth": 3, "rate": 0.01, "mode": "fast"}

    file = tmp_path / "run7.safetensors"
    file.write_bytes(b"weights")
    entry = parse_backbone(f"{file},model=convnext_tiny", catalog)
    assert (entry.key, entry.source, entry.family) == ("run7", "timm:convnext_tiny", "convnext")
    assert entry.weights is not None
    assert entry.weights.sha256 == digest_of_file(file)

    entry = parse_backbone(f"swin_micro_random,checkpoint={file},name=tuned", catalog)
    assert (entry.key, entry.family) == ("tuned", "swin")
    assert entry.weights is not None
    assert entry.weights.file == str(file)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("swin_micro_glyph", "Did you mean 'swin_micro_glyphs'"),
        ("timm:", "has no known form"),
        ("timm:x,pretrained", "'pretrained' is not key=value"),
        ("a.b:", "has no known form"),
        ("nowhere.safetensors,model=x", "no checkpoint file at"),
        ("nowhere.safetensors", "name the architecture"),
        ("swin_micro_glyph,drop=1", "Did you mean 'swin_micro_glyphs'"),
    ],
)
def test_bad_specs(catalog: Catalog, spec: str, message: str) -> None:
    with pytest.raises(BobError, match=message):
        parse_backbone(spec, catalog)


def test_an_entry_may_start_from_another(tmp_path: Path) -> None:
    """YAML's merge key: what it brings in may be given anew, and errors name the later line."""
    text = (
        "datasets:\n"
        "  one: &one {loader: 'a:b', sha256: null, classes: 2, test_size: 9}\n"
        "  two:\n    <<: *one\n    classes: %s\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text(text % 3)
    two = load_catalog([path]).dataset("two")
    assert (two.classes, two.test_size) == (3, 9)
    assert "mine.yaml:5: datasets.two.classes" in error_of(tmp_path, text % 0)
    twice = text % 3 + "    classes: 4\n"
    assert "mine.yaml:6: classes: already given on line 5" in error_of(tmp_path, twice)
