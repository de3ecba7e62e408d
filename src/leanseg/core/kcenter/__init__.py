"""Greedy k-center (farthest-first traversal) on points of any dimension."""

from leanseg.core.kcenter.dispatch import isolated, select

__all__ = ["isolated", "select"]
