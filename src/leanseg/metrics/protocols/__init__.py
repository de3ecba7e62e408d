"""How each benchmark scores: one protocol per file. Names load on first use.

Every choice in which protocols differ is a named option, and stands under `protocol` in the result.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.metrics.protocols.coco_tasks import COCOTasks
    from leanseg.metrics.protocols.davis import Davis, evaluate_davis, write_davis_csv
    from leanseg.metrics.protocols.ref_davis import RefDavis, evaluate_ref_davis, merge_objects, text_sets
    from leanseg.metrics.protocols.ref_youtube_vos import RefYouTubeVOS, evaluate_ref_youtube_vos
    from leanseg.metrics.protocols.revos import ReVOS, write_revos_csv
    from leanseg.metrics.protocols.revos_files import evaluate_revos
    from leanseg.metrics.protocols.rio import RIO
    from leanseg.metrics.protocols.submission import submission_files, write_submission
    from leanseg.metrics.result import Result

_HOMES = {
    "COCOTasks": "protocols.coco_tasks",
    "Davis": "protocols.davis",
    "evaluate_davis": "protocols.davis",
    "write_davis_csv": "protocols.davis",
    "RefDavis": "protocols.ref_davis",
    "evaluate_ref_davis": "protocols.ref_davis",
    "merge_objects": "protocols.ref_davis",
    "text_sets": "protocols.ref_davis",
    "RefYouTubeVOS": "protocols.ref_youtube_vos",
    "evaluate_ref_youtube_vos": "protocols.ref_youtube_vos",
    "ReVOS": "protocols.revos",
    "evaluate_revos": "protocols.revos_files",
    "write_revos_csv": "protocols.revos",
    "RIO": "protocols.rio",
    "submission_files": "protocols.submission",
    "write_submission": "protocols.submission",
    "Result": "result",
}

__all__ = [
    "RIO",
    "COCOTasks",
    "Davis",
    "ReVOS",
    "RefDavis",
    "RefYouTubeVOS",
    "Result",
    "evaluate_davis",
    "evaluate_ref_davis",
    "evaluate_ref_youtube_vos",
    "evaluate_revos",
    "merge_objects",
    "submission_files",
    "text_sets",
    "write_davis_csv",
    "write_revos_csv",
    "write_submission",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"leanseg.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
