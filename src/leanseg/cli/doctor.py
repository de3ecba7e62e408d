"""`leanseg doctor`: what is installed, what the machine can run, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Annotated, Any

import typer

from leanseg.cli.console import print_json, results

EPILOG = "Exit code 1 if something that leanseg needs is missing or broken. Put the output into a bug report."
NEEDED = (
    "torch",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "pillow",
    "pycocotools",
    "av",
    "jaxtyping",
)
OPTIONAL = ("peft", "matplotlib")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/cli.md) instead of lines.")] = False,
) -> None:
    """Report the environment: versions, devices, video encoders and the shipped model."""
    report = examine()
    if as_json:
        print_json(report)
    else:
        out = results()
        for section in ("machine", "packages", "devices", "video", "shipped"):
            out.print(f"[bold]{section}[/bold]")
            for name, value in report[section].items():
                out.print(f"  {name:<18} {'missing' if value is None else value}")
        for problem in report["problems"]:
            out.print(f"[red]problem[/red] {problem}")
    if report["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Return the whole report, JSON-ready; None stands for something that is missing."""
    from leanseg import __version__

    report: dict[str, Any] = {
        "schema": 1,
        "command": "doctor",
        "machine": {
            "leanseg": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpu_cores": os.cpu_count(),
        },
        "packages": {name: _version(name) for name in (*NEEDED, *OPTIONAL)},
        "devices": _devices(),
        "video": _encoders(),
        "shipped": _shipped(),
    }
    report["problems"] = _find_problems(report)
    return report


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {"torch": None}
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "threads": torch.get_num_threads(),
        "cuda": ", ".join(cuda) or "none",
        "mps": torch.backends.mps.is_available(),
    }


def _encoders() -> dict[str, Any]:
    """Overlay clips are H.264; PyAV brings the encoder, a system build of it may not."""
    try:
        import av
    except ImportError:
        return {"libx264": None}
    return {"libx264": "libx264" in av.codecs_available or None}


def _shipped() -> dict[str, Any]:
    from importlib.resources import files

    folder = files("leanseg") / "assets" / "instructseg-nano"
    size = sum(item.name.endswith(".safetensors") for item in folder.iterdir()) if folder.is_dir() else 0
    return {"instructseg-nano": f"{size} weight file(s)" if size else None}


def _find_problems(report: dict[str, Any]) -> list[str]:
    packages, video, shipped = report["packages"], report["video"], report["shipped"]
    found = [f"{name} is not installed; run: pip install leanseg" for name in NEEDED if packages[name] is None]
    if video["libx264"] is None:
        found.append("PyAV has no libx264 encoder, overlay clips cannot be written; install av from its wheel")
    if shipped["instructseg-nano"] is None:
        found.append("the weights of instructseg-nano are not in the package; install it again")
    return found
