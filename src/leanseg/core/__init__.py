"""Token grids, visual tokens, selections and budgets: what every method, model, picture and metric shares."""

from leanseg.core import kcenter
from leanseg.core.budget import keep_count
from leanseg.core.selection import Selection
from leanseg.core.tokens import Grid, VisualTokens

__all__ = ["Grid", "Selection", "VisualTokens", "kcenter", "keep_count"]
