"""Measures of masks, of selections and of differences. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.metrics import boundary, coverage, protocols, region, significance, video
    from leanseg.metrics.boundary import boundary_f, boundary_map, boundary_radius
    from leanseg.metrics.coverage import Coverage, InformationBound, information_bound
    from leanseg.metrics.region import CIoU, GIoU, MIoU, OIoU, PrecisionAt, jaccard
    from leanseg.metrics.significance import Interval, bootstrap_mean, paired_bootstrap
    from leanseg.metrics.video import JF, SequenceStatistics, sequence_statistics

_HOMES = {
    "boundary_f": "boundary",
    "boundary_map": "boundary",
    "boundary_radius": "boundary",
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
    "paired_bootstrap": "significance",
    "JF": "video",
    "SequenceStatistics": "video",
    "sequence_statistics": "video",
}
_MODULES = ("boundary", "coverage", "protocols", "region", "significance", "video")

__all__ = [
    "JF",
    "CIoU",
    "Coverage",
    "GIoU",
    "InformationBound",
    "Interval",
    "MIoU",
    "OIoU",
    "PrecisionAt",
    "SequenceStatistics",
    "bootstrap_mean",
    "boundary",
    "boundary_f",
    "boundary_map",
    "boundary_radius",
    "coverage",
    "information_bound",
    "jaccard",
    "paired_bootstrap",
    "protocols",
    "region",
    "sequence_statistics",
    "significance",
    "video",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
