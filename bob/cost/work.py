"""What one run of a case costs, as its protocol declares it."""

from __future__ import annotations

from bob.case import Case
from bob.errors import BobError
from bob.protocols import PROTOCOLS, Sizes, Work

USUAL_SIDE = 224
"""Pixels, where neither recipe nor entry says what a backbone is fed."""


def work_of(case: Case) -> Work | None:
    """The work of one run; none where the dataset's entry does not give its sizes.

    Raises:
        BobError: The recipe is not of the protocol's model.
    """
    spec, dataset = PROTOCOLS[case.task], case.dataset
    if not isinstance(case.recipe, spec.recipe):
        raise BobError(
            f"{case.task}[{case.name}] has a {type(case.recipe).__name__} but takes "
            f"{spec.recipe.__name__}, so that its cost cannot be told. Give it one of these."
        )
    learns = not spec.released_head
    if dataset.test_size is None or (learns and dataset.train_size is None):
        return None
    sizes = Sizes(
        train=dataset.train_size or 0,
        test=dataset.test_size,
        shifted=dataset.shift_size or 0,
        side=float(case.backbone.image_size or USUAL_SIDE),
        kind=dataset.kind,
    )
    return spec.work(case.recipe, sizes)
