"""Greedy k-center (farthest-first traversal) on points of any dimension."""

from leanseg.core.kcenter.dispatch import around_mean, isolated, select

__all__ = ["around_mean", "isolated", "select"]
