"""PebbleNet: a small vision backbone of convolutions first and attention last."""

from pebblenet.model import PebbleNet, pebblenet

__all__ = ["PebbleNet", "pebblenet"]
