"""Scores of many backbones in many settings, made up."""

from __future__ import annotations

import numpy as np

from bob.ledger import Score
from bob.report.facts import Facts

TASKS = ("finetune", "linear_probe", "knn", "low_shot", "retrieval", "ood", "detection")


def made_up(
    backbones: int, settings: int, *, seeds: int = 1, lacking: int = 0, seed: int = 0
) -> list[Score]:
    """Scores in which quality shows everywhere; the last ``lacking`` lack a setting."""
    rng = np.random.default_rng(seed)
    quality = rng.standard_normal(backbones)
    rows = []
    for number in range(settings):
        task = TASKS[number % len(TASKS)]
        effort = rng.uniform(10, 100)
        for index in range(backbones):
            if number == 0 and index >= backbones - lacking:
                continue
            level = 0.6 + 0.08 * quality[index] + 0.03 * rng.standard_normal()
            for run in range(seeds):
                rows.append(
                    Score(
                        backbone=f"backbone_{index:03d}",
                        family=f"family{index % 5}",
                        task=task,
                        dataset=f"data{number}",
                        scale="smoke",
                        seed=run,
                        metric="top1",
                        unit="proportion",
                        value=float(np.clip(level + 0.01 * rng.standard_normal(), 0.01, 0.99)),
                        higher_is_better=True,
                        is_score=True,
                        test_size=2000,
                        seeded=seeds > 1,
                        protocol=f"p{number}",
                        run_key=f"{number}-{index}-{run}",
                        seconds=effort * (1 + index % 4),
                        session="made_up",
                        time=f"2026-01-01T00:00:{run:02d}+00:00",
                    )
                )
    return rows


def facts(rows: list[Score]) -> dict[str, Facts]:
    """Facts of the backbones of some rows."""
    names = sorted({row.backbone for row in rows})
    return {
        name: Facts(
            backbone=name,
            architecture=f"Net-{index // 2}",
            family=f"family{index % 5}",
            pretraining="random" if index % 2 else "supervised, IN-1k",
            licence="apache-2.0" if index % 3 else "cc-by-nc-4.0",
            parameters_m=float(2 + 3 * index),
            pretraining_m=0.0 if index % 2 else 1.28 * (1 + index),
            images_per_second=0.0 if index == 1 else 4000.0 / (1 + index),
        )
        for index, name in enumerate(names)
    }
