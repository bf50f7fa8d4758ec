"""Store the low-shot draws of the embedded datasets with their labels' digest.

python scripts/draw_low_shot.py digits
"""

from __future__ import annotations

import argparse
import json

from bob.catalog import load_catalog
from bob.datasets import ClassificationData, load_dataset
from bob.datasets.subsets import STORED, labels_digest, low_shot_draws

SHOTS = (1, 5, 10)
FRACTIONS = (0.01, 0.1)
DRAWS = 5


def main() -> None:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("datasets", nargs="+")
    for key in command.parse_args().datasets:
        data = load_dataset(load_catalog().dataset(key))
        assert isinstance(data, ClassificationData), f"{key} has no train split"
        draws = low_shot_draws(
            data.train.targets, data.class_names, shots=SHOTS, fractions=FRACTIONS, draws=DRAWS
        )
        record = {
            "dataset": key,
            "sha256": data.sha256,
            "labels": labels_digest(data.train.targets),
            "draws": {name: [rows.tolist() for rows in drawn] for name, drawn in draws.items()},
        }
        path = STORED / f"{key}.json"
        text = json.dumps(record)
        path.write_text(text + "\n")
        sizes = ", ".join(f"{name} {len(drawn[0])}" for name, drawn in draws.items())
        print(f"{path}: images a draw: {sizes}")


if __name__ == "__main__":
    main()
