"""Measures of masks, of selections and of differences. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.metrics import (
        boundary,
        comparison,
        correlation,
        coverage,
        protocols,
        region,
        significance,
        tradeoff,
        video,
    )
    from leanseg.metrics.boundary import boundary_f, boundary_map, boundary_radius
    from leanseg.metrics.comparison import Comparison, adjusted, compare
    from leanseg.metrics.correlation import (
        Correlation,
        GroupedCorrelation,
        pearson,
        spearman,
        within_groups,
    )
    from leanseg.metrics.coverage import Coverage, InformationBound, information_bound
    from leanseg.metrics.region import CIoU, GIoU, MIoU, OIoU, PrecisionAt, jaccard
    from leanseg.metrics.repeated import crossed, within_clusters
    from leanseg.metrics.significance import Interval, bootstrap_mean, bootstrap_median, paired_bootstrap, paired_t
    from leanseg.metrics.tradeoff import Retention, pareto, saturation, smallest_retention
    from leanseg.metrics.video import JF, SequenceStatistics, sequence_statistics

_HOMES = {
    "boundary_f": "boundary",
    "boundary_map": "boundary",
    "boundary_radius": "boundary",
    "Comparison": "comparison",
    "adjusted": "comparison",
    "compare": "comparison",
    "Correlation": "correlation",
    "GroupedCorrelation": "correlation",
    "crossed": "repeated",
    "pearson": "correlation",
    "spearman": "correlation",
    "within_clusters": "repeated",
    "within_groups": "correlation",
    "Coverage": "coverage",
    "InformationBound": "coverage",
    "information_bound": "coverage",
    "CIoU": "region",
    "GIoU": "region",
    "MIoU": "region",
    "OIoU": "region",
    "PrecisionAt": "region",
    "jaccard": "region",
    "Interval": "significance",
    "bootstrap_mean": "significance",
    "bootstrap_median": "significance",
    "paired_bootstrap": "significance",
    "paired_t": "significance",
    "Retention": "tradeoff",
    "pareto": "tradeoff",
    "saturation": "tradeoff",
    "smallest_retention": "tradeoff",
    "JF": "video",
    "SequenceStatistics": "video",
    "sequence_statistics": "video",
}
_MODULES = (
    "boundary",
    "comparison",
    "correlation",
    "coverage",
    "protocols",
    "region",
    "significance",
    "tradeoff",
    "video",
)

__all__ = [
    "JF",
    "CIoU",
    "Comparison",
    "Correlation",
    "Coverage",
    "GIoU",
    "GroupedCorrelation",
    "InformationBound",
    "Interval",
    "MIoU",
    "OIoU",
    "PrecisionAt",
    "Retention",
    "SequenceStatistics",
    "adjusted",
    "bootstrap_mean",
    "bootstrap_median",
    "boundary",
    "boundary_f",
    "boundary_map",
    "boundary_radius",
    "compare",
    "comparison",
    "correlation",
    "coverage",
    "crossed",
    "information_bound",
    "jaccard",
    "paired_bootstrap",
    "paired_t",
    "pareto",
    "pearson",
    "protocols",
    "region",
    "saturation",
    "sequence_statistics",
    "significance",
    "smallest_retention",
    "spearman",
    "tradeoff",
    "video",
    "within_clusters",
    "within_groups",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
