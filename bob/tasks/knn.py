"""Weighted nearest-neighbour classification on frozen features, as DINO does it.

Nothing is learnt and nothing depends on the seed.
"""

from __future__ import annotations

import time

from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.heads.neighbours import votes
from bob.metrics.classification import outcomes, top_k
from bob.protocols.knn import KnnRecipe
from bob.tasks.from_features import features_output
from bob.tasks.output import TaskOutput


def run(
    case: Case,
    backbone: Backbone,
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Classify each test image by the votes of its nearest train images.

    Returns:
        ``top1``, ``top5`` and ``vote_share``, the mean share of the vote that goes to the right
        class, with the recipe's ``k``; and ``top1_k<N>`` for every number.
    """
    recipe = case.recipe
    assert isinstance(recipe, KnnRecipe)
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    train = source.features(data.train, "train").tensor().to(fabric.device)
    test = source.features(data.test, "test").tensor().to(fabric.device)
    ks = sorted({recipe.k, *recipe.others})
    shares = votes(
        train,
        data.train.targets,
        test,
        classes=len(data.class_names),
        ks=ks,
        temperature=recipe.temperature,
    )
    targets = data.test.targets
    few = [k for k in ks if k > len(train)]
    return features_output(
        source,
        started,
        metrics={
            "top1": top_k(shares[recipe.k], targets),
            "top5": top_k(shares[recipe.k], targets, 5),
            "vote_share": float(shares[recipe.k].gather(1, targets[:, None]).mean()),
            **{f"top1_k{k}": top_k(shares[k], targets) for k in ks},
        },
        outcomes=outcomes(shares[recipe.k].log().float(), targets, data.class_names),
        remarks=(
            (f"{len(train)} train images are fewer than k = {few[-1]}; all of them vote",)
            if few
            else ()
        ),
    )
