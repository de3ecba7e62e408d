"""Measures of masks, of selections and of differences. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.metrics import coverage, region, significance
    from leanseg.metrics.coverage import Coverage, InformationBound, information_bound
    from leanseg.metrics.region import CIoU, GIoU, jaccard
    from leanseg.metrics.significance import Interval, bootstrap_mean, paired_bootstrap

_HOMES = {
    "Coverage": "coverage",
    "InformationBound": "coverage",
    "information_bound": "coverage",
    "CIoU": "region",
    "GIoU": "region",
    "jaccard": "region",
    "Interval": "significance",
    "bootstrap_mean": "significance",
    "paired_bootstrap": "significance",
}
_MODULES = ("coverage", "region", "significance")

__all__ = [
    "CIoU",
    "Coverage",
    "GIoU",
    "InformationBound",
    "Interval",
    "bootstrap_mean",
    "coverage",
    "information_bound",
    "jaccard",
    "paired_bootstrap",
    "region",
    "significance",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
