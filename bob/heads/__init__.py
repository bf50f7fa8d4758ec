"""Heads on frozen features: logistic regression, nearest neighbours."""
