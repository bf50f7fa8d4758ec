"""Weighted nearest-neighbour classification on frozen features, as DINO does it.

Nothing is learnt and nothing depends on the seed. The temperature that mends the votes is fitted on
train images, on each of which all the others vote.
"""

from __future__ import annotations

import torch

from bob.backbones import Backbone
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.heads.neighbours import votes, votes_among
from bob.job import Job, TaskOutput
from bob.metrics.calibration import fit_vote_temperature
from bob.metrics.classification import outcomes, top_k
from bob.protocols.knn import KnnRecipe
from bob.tasks._spare import spare_rows


def run(job: Job[KnnRecipe, ClassificationData, Backbone]) -> TaskOutput:
    """Classify each test image by the votes of its nearest train images.

    Returns:
        ``top1``, ``top5`` and ``vote_share``, the mean share of the vote that goes to the right
        class, with the recipe's ``k``; and ``top1_k<N>`` for every number.
    """
    recipe, data = job.recipe, job.data
    source = FeatureSource(job)
    train = source.on_device(data.train, "train")
    test = source.on_device(data.test, "test")
    ks = sorted({recipe.k, *recipe.others})
    shares = votes(
        train,
        data.train.targets,
        test,
        classes=job.classes,
        ks=ks,
        temperature=recipe.temperature,
    )
    targets = data.test.targets
    few = [k for k in ks if k > len(train)]
    return source.output(
        metrics={
            "top1": top_k(shares[recipe.k], targets),
            "top5": top_k(shares[recipe.k], targets, 5),
            "vote_share": float(shares[recipe.k].gather(1, targets[:, None]).mean()),
            **{f"top1_k{k}": top_k(shares[k], targets) for k in ks},
        },
        outcomes=outcomes(
            shares[recipe.k].log().float(),
            targets,
            data.class_names,
            temperature=_temperature(recipe, train, data),
        ),
        remarks=(
            (f"{len(train)} train images are fewer than k = {few[-1]}; all of them vote",)
            if few
            else ()
        ),
    )


def _temperature(recipe: KnnRecipe, train: torch.Tensor, data: ClassificationData) -> float | None:
    """Fitted on train images, each classified by all of the others; none with a single image."""
    if len(train) < 2:
        return None
    targets = data.train.targets
    rows = torch.from_numpy(spare_rows(targets))
    shares = votes_among(
        train,
        targets,
        rows,
        classes=len(data.class_names),
        k=recipe.k,
        temperature=recipe.temperature,
    )
    return fit_vote_temperature(shares, targets[rows])
