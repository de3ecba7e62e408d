"""Devices by name: `auto`, `cpu`, `cuda` or `cuda:n`."""

from __future__ import annotations

import torch

from leanseg.errors import InputError


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device for `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:n`, or say why there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"unknown device {str(device)!r}; expected auto, cpu, cuda or cuda:0")
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            found = f"{count} CUDA device{'s' if count != 1 else ''}" if count else "no CUDA device"
            raise InputError(f"device {str(device)!r} was asked for and torch sees {found}; give --device cpu or auto")
    return chosen
