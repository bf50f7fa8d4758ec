"""Scores of one split from logits and labels."""
