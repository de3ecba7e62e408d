"""What is noted while the vision tower runs: picture sizes, one layer's attention and keys, the projector's inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from leanseg.core import Grid
from leanseg.errors import AttachError
from leanseg.hf.cues import Seen, attention_module, listen, reader
from leanseg.hf.layouts import Layout, with_cues
from leanseg.pruners import Pruner
from leanseg.shapes import Tensor


@dataclass(frozen=True)
class Record:
    """One run of the tower: its arguments, the grids of its pictures if they vary, and what was listened to."""

    call: Mapping[str, Any]
    grids: Sequence[Grid] | None
    seen: Seen = field(default_factory=Seen)
    inputs: list[Tensor] = field(default_factory=list)


class Recorder:
    """Listens to the vision tower of one model; remembers its last runs."""

    def __init__(self, layout: Layout, base: Any, pruner: Pruner, site: str) -> None:
        self.layout = layout
        self.base = base
        self.wants_attention = "attention" in pruner.cues and pruner.attention_from == "tower"
        self.wants_keys = "keys" in pruner.cues
        self.wants_inputs = site == "before_projector"
        self.records: list[Record] = []
        self._stale = False
        if self.wants_inputs and not layout.before_projector:
            raise AttachError(
                f"the projector of {layout.model_type!r} does not take one row per token, so that "
                "site='before_projector' is not possible; use 'after_projector', or a family where it is: "
                + with_cues(lambda row: row.before_projector)
            )
        if self.wants_inputs and "guidance" in pruner.cues:
            raise AttachError(
                f"{pruner.spec()} is guided by text embeddings, which have the width of projected features; use "
                "site='after_projector'"
            )
        tower = getattr(getattr(base.config, "vision_config", None), "model_type", "")
        if (self.wants_attention or self.wants_keys) and (layout.cues is None or tower == "pixtral"):
            wanted = " and ".join(cue for cue in ("attention", "keys") if cue in pruner.cues)
            raise AttachError(
                f"{pruner.spec()} needs {wanted} of the vision tower, which cannot be had from {layout.model_type!r}"
                f"{' with a Pixtral tower' if tower == 'pixtral' else ''}; "
                f"choose a method without, or a family where they can: {with_cues(lambda row: row.cues is not None)}"
            )

    def install(self, stack: ExitStack) -> None:
        """Add the hooks; `stack` removes them."""
        tower = self.layout.part(self.base, "tower")
        stack.callback(tower.register_forward_pre_hook(self._tower_runs, with_kwargs=True).remove)
        if self.wants_inputs:
            projector = self.layout.part(self.base, "projector")
            stack.callback(projector.register_forward_pre_hook(self._projector_runs, with_kwargs=True).remove)
        if self.wants_attention or self.wants_keys:
            layers = self.layout.part(self.base, "layers")
            layer = layers[self.layout.feature_layer(self.base)]  # type: ignore[index]
            read = reader(lambda: self.records[-1].seen, attention=self.wants_attention, keys=self.wants_keys)
            stack.enter_context(listen(attention_module(layer), read))

    def used(self) -> None:
        """Say that the records were read: the next run of the tower begins anew."""
        self._stale = True

    def _tower_runs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._stale:
            self.records.clear()
            self._stale = False
        call = arguments(module, args, kwargs)
        grids = None if self.layout.grids is None else self.layout.grids(self.base, call)
        # Pixels are not kept alive.
        small = {name: value for name, value in call.items() if name == "grid_thw"}
        self.records.append(Record(small, grids))

    def _projector_runs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.records:
            self.records[-1].inputs.append(next(iter(arguments(module, args, kwargs).values())))

    def of_kind(self, position: int, n_kinds: int) -> Record | None:
        """Return the record of the `position`-th of `n_kinds` kinds of pictures (stills come before clips), if any."""
        if len(self.records) == n_kinds:
            return self.records[position]
        if n_kinds == 1 and self.records:
            known = [one.grids for one in self.records]
            grids = None if None in known else [grid for each in known for grid in each or ()]
            seen = Seen(
                [part for one in self.records for part in one.seen.attentions],
                [part for one in self.records for part in one.seen.keys_of],
            )
            inputs = [part for one in self.records for part in one.inputs]
            call = self.records[0].call
            if "grid_thw" in call:
                call = {"grid_thw": torch.cat([one.call["grid_thw"] for one in self.records])}
            return Record(call, grids, seen, inputs)
        return None

    def evidence(self, record: Record | None) -> dict[str, list[Tensor]]:
        """Return what was listened to, per picture or clip: `attention` (n,), `keys` (n, Dk), `inputs` (n, Dv)."""
        if not (self.wants_attention or self.wants_keys or self.wants_inputs):
            return {}
        if record is None:
            raise AttachError(
                "the vision tower did not run inside the `with`, so that what it saw is unknown; give pixel values "
                "instead of features made elsewhere"
            )
        found: dict[str, list[Tensor]] = {}
        pool = self.layout.cues
        if pool is not None and self.wants_attention:
            found["attention"] = pool(self.base, record.seen.attentions, record.call, record.grids)
        if pool is not None and self.wants_keys:
            found["keys"] = pool(self.base, record.seen.keys_of, record.call, record.grids)
        if self.wants_inputs:
            rows = torch.cat(record.inputs)
            sizes = None if record.grids is None else [grid.n_tokens for grid in record.grids]
            found["inputs"] = list(rows) if sizes is None else list(rows.flatten(0, 1).split(sizes))
        return found


def arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, whichever way they were given."""
    if not args:
        return dict(kwargs)
    names = list(inspect.signature(module.forward).parameters)
    return {**dict(zip(names, args, strict=False)), **kwargs}
