"""Rows in the eigenbasis of their covariance, whatever their rank and scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bob.errors import BobError

# Features of a larger variance are scaled: products would overflow in single precision.
_LARGEST_VARIANCE = 2.0**30
# Share of the largest variance below which a direction's is rounding, in double precision.
_RANK = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """Centred rows in an orthonormal basis that makes their columns uncorrelated.

    Attributes:
        scale: Power of two that features are divided by; 1 unless they are huge.
        mean: Of the divided features, ``(d,)``.
        basis: ``(d, r)``, orthonormal columns. ``r`` is ``d`` as a rule; it is the rank of features
            that are huge, or on which the usual solver fails.
        variances: Of the columns of ``rows``, not negative, float64, ``(r,)``.
        rows: ``(n, r)``.
    """

    scale: float
    mean: torch.Tensor
    basis: torch.Tensor
    variances: torch.Tensor
    rows: torch.Tensor


def spectrum(features: torch.Tensor) -> Spectrum:
    """Principal axes of ``(n, d)`` finite float32 or float64 features.

    Raises:
        BobError: ``kind="features"`` when no eigenvalue solver converges.
    """
    scale = 1.0
    mean, centred = _centred(features)
    # Single precision keeps each entry's digits, double the small eigenvalues beside large.
    scatter = (centred.T @ centred).double() / len(features)
    # False for NaN, which overflow leaves behind.
    if bool((scatter.diagonal() <= _LARGEST_VARIANCE).all()):
        try:
            variances, basis = torch.linalg.eigh(scatter)
        except torch.linalg.LinAlgError:
            variances, basis = _axes(centred.double())
    else:
        # A power of two costs no digit; float32 lacks 2^128, hence the half of the next above.
        _, exponent = torch.frexp(features.abs().amax())
        scale = 2.0 ** (int(exponent) - 1)
        mean, centred = _centred(features / scale)
        # No penalty keeps weights on rounding small here.
        variances, basis = _axes(centred.double())
    basis = basis.to(features.dtype)
    return Spectrum(scale, mean, basis, variances.clamp_min(0), centred @ basis)


def eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric float64 matrix.

    Raises:
        BobError: ``kind="features"`` when no solver converges.
    """
    # Divide and conquer, the fastest, gives up on some matrices of low rank; QR iteration does not.
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:
        values, vectors = _by_qr_iteration(matrix)
    return values, vectors


def _by_qr_iteration(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    import scipy.linalg

    try:
        found = scipy.linalg.eigh(matrix.cpu().numpy(), driver="ev")
    except (scipy.linalg.LinAlgError, ValueError) as error:
        raise BobError(
            f"No eigenvalue solver converges on a product of these features: {error}. Look for "
            "values that are far larger than all others.",
            kind="features",
        ) from error
    values, vectors = (torch.from_numpy(part).to(matrix.device) for part in found)
    return values, vectors


def _centred(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = features.mean(0, dtype=torch.float64).to(features.dtype)
    return mean, features - mean


def _axes(centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variances and axes of float64 rows along which they vary at all.

    From the smaller of the rows' two products: it has the same eigenvalues, but for zeros.
    """
    count, width = centred.shape
    wide = count < width
    squares, vectors = eigen(centred @ centred.T if wide else centred.T @ centred)
    kept = squares > _RANK * squares[-1]
    kept[-1] = True
    squares, vectors = squares[kept].clamp_min(1e-300), vectors[:, kept]
    return squares / count, centred.T @ vectors / squares.sqrt() if wide else vectors
