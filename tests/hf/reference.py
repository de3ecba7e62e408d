"""A pruned pass by hand: one row without padding, the language model fed with the kept embeddings only."""

from __future__ import annotations

from typing import Any

import torch

from leanseg.hf.layouts import find


class Fed:
    """What enters the language model of an unpruned pass."""

    def __init__(self, model: Any) -> None:
        self.layout, self.base = find(model)
        self.model = model
        self.language = self.layout.part(self.base, "language")

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []
        hook = self.language.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(kwargs), with_kwargs=True)
        try:
            with torch.no_grad():
                self.model(**inputs)
        finally:
            hook.remove()
        return seen[0]

    def logits(self, inputs: dict[str, Any], columns: list[int], positions: str) -> torch.Tensor:
        """Return the logits (1, L', V) of one row when only `columns` enter."""
        kwargs, places = self(inputs), torch.tensor(columns)
        fed = {**kwargs, "inputs_embeds": kwargs["inputs_embeds"][:, places], "use_cache": False}
        fed["past_key_values"] = None
        length = kwargs["inputs_embeds"].shape[1]
        whole = kwargs.get("position_ids")
        whole = torch.arange(length)[None] if whole is None else whole
        fed["position_ids"] = whole[..., places] if positions == "original" else whole[..., : len(places)]
        fed["attention_mask"] = _square(kwargs.get("attention_mask"), places)
        if kwargs.get("deepstack_visual_embeds") is not None:
            visual = kwargs["visual_pos_masks"][0]
            rank = visual.cumsum(0) - 1
            stay = rank[places][visual[places]]
            fed["deepstack_visual_embeds"] = [rows[stay] for rows in kwargs["deepstack_visual_embeds"]]
            fed["visual_pos_masks"] = kwargs["visual_pos_masks"][:, places]
        with torch.no_grad():
            hidden = self.language(**fed).last_hidden_state
            logits = self.model.lm_head(hidden)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap


def _square(mask: Any, places: torch.Tensor) -> Any:
    if isinstance(mask, dict):
        return {name: _square(each, places) for name, each in mask.items()}
    if mask is None or mask.ndim == 2:
        return torch.ones(1, len(places), dtype=torch.long)
    return mask[:, :, places][..., places]


def kept_columns(trace: Any, row: int, visual: torch.Tensor) -> list[int]:
    """Return the columns of a row that stay, from the selections alone; `visual` (L,) marks its placeholders."""
    stay, width_at = set(), {}
    for item in trace.items:
        if item.row != row:
            continue
        columns, per_frame = item.columns.tolist(), item.selections[0].n_tokens
        broken = columns[-1] - columns[0] + 1 > len(columns)
        width_at |= dict.fromkeys(columns, item.grid.width if broken and item.kind == "image" else 0)
        for frame, selection in enumerate(item.selections):
            stay |= {columns[frame * per_frame + index] for index in selection.indices[0].tolist()}
    for place in range(len(visual)):
        if bool(visual[place]) and place not in width_at:  # a separator
            width = width_at[place - 1]
            if width == 0 or stay & set(range(place - width, place)):
                stay.add(place)
    return [place for place in range(len(visual)) if not bool(visual[place]) or place in stay]
