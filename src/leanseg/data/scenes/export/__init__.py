"""Writing generated scenes in the on-disk layouts of public data sets, so that readers can be tried end to end."""

from leanseg.data.scenes.export.davis import write_ref_davis17
from leanseg.data.scenes.export.native import write_native
from leanseg.data.scenes.export.reasonseg import write_reasonseg
from leanseg.data.scenes.export.refcoco import write_refcoco
from leanseg.data.scenes.export.revos import write_revos
from leanseg.data.scenes.export.youtube_vos import write_ref_youtube_vos

__all__ = [
    "write_native",
    "write_reasonseg",
    "write_ref_davis17",
    "write_ref_youtube_vos",
    "write_refcoco",
    "write_revos",
]
