"""What every process that the package starts owes the one that started it."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def leave_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if that was killed and could tell nobody.

    Does nothing in a process that `multiprocessing` did not start.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        # Not sys.exit: the main thread may be inside a computation or wait for a partner that is gone as well.
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()
