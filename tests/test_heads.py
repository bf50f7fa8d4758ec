"""Neighbours, the chosen probe and the paper's trainer against independent versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from bob.datasets.subsets import held_out
from bob.heads.few_shot import fit_few
from bob.heads.neighbours import votes, votes_among
from bob.heads.paper_probe import Trainer
from bob.heads.probe import fit_probe
from bob.protocols.linear_probe_paper import PaperProbeRecipe


def blobs(count: int, width: int = 6, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centres = rng.normal(size=(classes, width))
    features = centres[targets] + rng.normal(size=(count, width))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(targets)


def by_definition(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> np.ndarray:
    """DINO's vote, one test image at a time, in double precision."""

    def unit(row: np.ndarray) -> np.ndarray:
        norm = np.linalg.norm(row)
        return row / norm if norm else row

    shares = np.zeros((len(test), int(targets.max()) + 1))
    for index, row in enumerate(test):
        similar = np.array([unit(row) @ unit(other) for other in train])
        nearest = sorted(range(len(train)), key=lambda i: (-similar[i], i))[:k]
        for neighbour in nearest:
            shares[index, targets[neighbour]] += math.exp(similar[neighbour] / temperature)
    return shares / shares.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 30),
    k=st.integers(1, 40),
    temperature=st.sampled_from([0.07, 1.0]),
    zeros=st.booleans(),
)
def test_votes_are_those_of_the_definition(
    seed: int, count: int, k: int, temperature: float, zeros: bool
) -> None:
    train, targets = blobs(count, seed=seed)
    targets[0] = 2
    test, _ = blobs(7, seed=seed + 1)
    if zeros:
        train[0] = 0
        test[0] = 0
    found = votes(train, targets, test, classes=3, ks=[k], temperature=temperature)[k]
    wanted = by_definition(
        train.double().numpy(), targets.numpy(), test.double().numpy(), k, temperature
    )
    assert np.allclose(found.numpy()[1:], wanted[1:], atol=2e-4)
    if not zeros:
        assert np.allclose(found.numpy()[0], wanted[0], atol=2e-4)
    assert torch.isfinite(found).all()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 30),
    k=st.integers(1, 40),
    data=st.data(),
)
def test_leaving_one_out_is_a_loop_over_the_others(
    seed: int, count: int, k: int, data: st.DataObject
) -> None:
    train, targets = blobs(count, seed=seed)
    targets[-1] = 2
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8, unique=True))
    found = votes_among(train, targets, torch.tensor(rows), classes=3, k=k, temperature=0.07)
    assert found.shape == (len(rows), 3)
    for place, row in enumerate(rows):
        others = [other for other in range(count) if other != row]
        wanted = by_definition(
            train[others].double().numpy(),
            targets[others].numpy(),
            train[[row]].double().numpy(),
            k,
            0.07,
        )[0]
        wanted = np.pad(wanted, (0, 3 - len(wanted)))
        assert np.allclose(found[place].numpy(), wanted, atol=2e-4)


def test_a_duplicate_votes_and_the_image_itself_never_does() -> None:
    features, _ = blobs(4)
    pairs = features.repeat(2, 1)
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    found = votes_among(pairs, targets, torch.arange(8), classes=2, k=1, temperature=0.07)
    assert found.argmax(dim=1).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    alike = torch.ones(6, 3)  # the last is not among its own three nearest
    found = votes_among(alike, torch.arange(6), torch.tensor([5]), classes=6, k=2, temperature=0.07)
    assert found.tolist() == [[0.5, 0.5, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match="two at least"):
        votes_among(alike[:1], targets[:1], torch.tensor([0]), classes=2, k=1, temperature=0.07)


def test_votes_agree_with_scikit_learn() -> None:
    train, targets = blobs(200, seed=3)
    test, _ = blobs(60, seed=4)
    found = votes(train, targets, test, classes=3, ks=[5, 20], temperature=0.07)
    for k, shares in found.items():
        reference = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / 0.07)
        ).fit(train.numpy(), targets.numpy())
        assert np.allclose(shares.numpy(), reference.predict_proba(test.numpy()), atol=1e-4)


def test_one_search_serves_every_k() -> None:
    train, targets = blobs(50)
    test, _ = blobs(9, seed=1)
    together = votes(train, targets, test, classes=3, ks=[1, 10, 99], temperature=0.07)
    for k in (1, 10, 99):
        alone = votes(train, targets, test, classes=3, ks=[k], temperature=0.07)[k]
        assert torch.equal(together[k], alone)


def test_the_probe_is_chosen_on_the_held_out_part_and_refitted() -> None:
    features, targets = blobs(300)
    values = (1e-4, 1e-2, 1.0, 100.0)
    probe = fit_probe(features, targets, classes=3, values=values, holdout=0.1)
    fit, choose = held_out(targets, 0.1)
    scores = []

    def expected(c: float) -> float:
        head = LogisticRegression(C=c, max_iter=2000, tol=1e-8).fit(features[fit], targets[fit])
        logs = head.predict_log_proba(features[choose])
        scores.append(head.score(features[choose], targets[choose]))
        total = -logs[np.arange(len(choose)), targets[choose]].sum()
        return float((total - logs.mean()) / (len(choose) + 1))

    losses = [expected(value) for value in values]
    assert [point.top1 for point in probe.path] == pytest.approx(scores, abs=1e-6)
    assert [point.expected_loss for point in probe.path] == pytest.approx(losses, rel=2e-3)
    best = losses.index(min(losses))
    assert values[best - 1] < probe.c < values[best + 1]
    a, b, c = (math.log(value) for value in values[best - 1 : best + 2])
    bend, slope, _ = np.polyfit((a, b, c), losses[best - 1 : best + 2], 2)
    assert math.log(probe.c) == pytest.approx(-slope / (2 * bend), abs=0.02)
    assert probe.chosen is not None
    assert probe.chosen.expected_loss == pytest.approx(expected(probe.c), rel=1e-4)
    whole = LogisticRegression(C=probe.c, max_iter=2000, tol=1e-8).fit(features, targets)
    mine = probe.head.logits(features).softmax(dim=1).numpy()
    assert np.allclose(mine, whole.predict_proba(features.numpy()), atol=2e-3)


def test_a_probe_of_one_image_a_class_chooses_nothing() -> None:
    features, targets = blobs(3)
    probe = fit_probe(features, targets, classes=3, values=(0.1, 1.0, 10.0), holdout=0.1)
    assert probe.path == ()
    assert probe.c == 1.0
    assert (probe.head.logits(features).argmax(dim=1) == targets).all()


@settings(deadline=None, max_examples=20)
@given(scale=st.sampled_from([1e-3, 1.0, 1e3]), shift=st.sampled_from([0.0, 5.0]))
def test_low_shot_probes_do_not_depend_on_scale_or_offset(scale: float, shift: float) -> None:
    features, targets = blobs(30)
    test, _ = blobs(40, seed=1)
    plain = fit_few(features, targets, classes=3, c=1.0).logits(test)
    moved = fit_few((features + shift) * scale, targets, classes=3, c=1.0)
    again = moved.logits((test + shift) * scale)
    assert torch.allclose(plain.softmax(1), again.softmax(1), atol=5e-3)


def test_equal_features_say_nothing() -> None:
    features = torch.ones(6, 4)
    targets = torch.arange(6) % 3
    logits = fit_few(features, targets, classes=3, c=1.0).logits(torch.ones(2, 4))
    assert torch.allclose(logits.softmax(1), torch.full((2, 3), 1 / 3), atol=1e-4)


def test_lars_by_hand() -> None:
    """One update of the paper's trainer against LARS as its authors state it (You et al., 2017)."""
    features, targets = blobs(32)
    recipe = PaperProbeRecipe(
        epochs=2, batch_size=32, warmup_epochs=0, base_lr=0.8, batch_norm=False
    )
    torch.manual_seed(0)
    trainer = Trainer.start(recipe, 6, 3, torch.device("cpu"))
    weight = trainer.linear.weight.detach().clone()
    logits = features @ weight.T
    error = logits.softmax(1) - torch.nn.functional.one_hot(targets, 3)
    slope = error.T @ features / 32
    rate = 0.8 * 32 / 256
    trust = 1e-3 * weight.norm() / slope.norm()
    loss = trainer.epoch(features, targets, 0, torch.Generator().manual_seed(0))
    assert loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, targets)), abs=1e-5
    )
    assert torch.allclose(trainer.linear.weight, weight - rate * trust * slope, atol=1e-7)
    assert torch.allclose(trainer.linear.bias, -rate * error.mean(dim=0), atol=1e-6)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    trainer = Trainer.start(PaperProbeRecipe(), 4, 3, torch.device("cpu"))
    assert trainer.rate(0, 2048) == 0
    assert trainer.rate(5, 2048) == pytest.approx(0.4)
    assert trainer.rate(10, 2048) == pytest.approx(0.8)
    assert trainer.rate(50, 2048) == pytest.approx(0.4)
    assert trainer.rate(90, 2048) == pytest.approx(0)


def test_batch_norm_has_no_affine_part_and_the_papers_epsilon() -> None:
    trainer = Trainer.start(PaperProbeRecipe(), 4, 3, torch.device("cpu"))
    assert isinstance(trainer.norm, torch.nn.BatchNorm1d)
    assert (trainer.norm.affine, trainer.norm.eps) == (False, 1e-6)
    plain = Trainer.start(PaperProbeRecipe(batch_norm=False), 4, 3, torch.device("cpu"))
    assert isinstance(plain.norm, torch.nn.Identity)
