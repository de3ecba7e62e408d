"""Greedy k-center (farthest-first traversal) on points of any dimension."""

from leanseg.core.kcenter.dispatch import select

__all__ = ["select"]
