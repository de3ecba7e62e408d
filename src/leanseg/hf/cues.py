"""What one attention layer of a Hugging Face model sees: attention received and keys, at the model's own speed."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from leanseg.core.attention import received_attention
from leanseg.errors import AttachError
from leanseg.shapes import Bool, Float, Int, Tensor

# The private name under which one layer's attention is listened to.
NAME = "leanseg_listened"
_ATTENTION = ("self_attn", "attn", "attention")
Reader = Callable[[Tensor, Tensor, Tensor | None, float | None], None]


@dataclass(frozen=True)
class _Listener:
    """Who listens to a layer: `read` is called for the passes of one thread, `original` answers all of them."""

    read: Reader
    original: Callable[..., Any]
    thread: int


_LISTENED: WeakKeyDictionary[nn.Module, _Listener] = WeakKeyDictionary()
# One lock per layer, held while it is listened to, so that threads take turns; the guard makes them.
_TURNS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()


@dataclass
class Seen:
    """What was captured, call by call: `attentions` (b, n) float32 and `keys_of` (b, n, Dk) in the layer's dtype."""

    attentions: list[Tensor] = field(default_factory=list)
    keys_of: list[Tensor] = field(default_factory=list)

    @property
    def attention(self) -> Float[Tensor, "b n"]:
        """The attention that each token receives, all calls as one batch: mean over heads and queries."""
        return self._whole("attention", self.attentions)

    @property
    def keys(self) -> Float[Tensor, "b n dk"]:
        """The keys, averaged over heads, all calls as one batch."""
        return self._whole("keys", self.keys_of)

    def _whole(self, name: str, parts: list[Tensor]) -> Tensor:
        if not parts:
            raise AttachError(
                f"no {name} were captured: the layer did not run inside the `with`, or {name} were not asked for"
            )
        if len({part.shape[1] for part in parts}) > 1:
            raise AttachError(f"the calls saw {[part.shape[1] for part in parts]} tokens; take them one by one")
        return torch.cat(parts)


def attention_module(layer: nn.Module) -> nn.Module:
    """Return the attention of a transformer layer, or the module itself where it is one."""
    for name in _ATTENTION:
        found = getattr(layer, name, None)
        if isinstance(found, nn.Module):
            return found
    return layer


@contextmanager
def capture(layer: nn.Module, *, attention: bool = True, keys: bool = True) -> Iterator[Seen]:
    """Record what `layer` (a transformer layer or its attention module) sees while the `with` lasts.

    Its queries and keys, after rotary embedding where there is one, are read where they enter the attention function,
    whichever is in use: nothing else changes, the other layers keep theirs, and no map of all pairs is made. `keys`
    are averaged over heads. A class token is a token like any other here: cut it off afterwards.

    Threads take turns: a second one waits here. Passes of other threads through the same layer are not recorded.

    Usage: `with capture(tower.encoder.layers[-2]) as seen: tower(pixels)`; then `seen.attention`, `seen.keys`.
    """
    seen = Seen()
    with listen(attention_module(layer), reader(lambda: seen, attention=attention, keys=keys)):
        yield seen


def reader(into: Callable[[], Seen], *, attention: bool, keys: bool) -> Reader:
    """Return a reader for `listen` that adds what it reads to `into()`."""

    def read(q: Tensor, k: Tensor, mask: Tensor | None, scale: float | None) -> None:
        seen = into()
        if attention:
            seen.attentions.append(received_attention(q, k, scale=scale, allowed=_same_for_all(mask, q, k)))
        if keys:
            seen.keys_of.append(k.detach().mean(dim=1))

    return read


@contextmanager
def listen(module: nn.Module, read: Reader) -> Iterator[None]:
    """Call `read(q, k, mask, scale)` whenever `module`'s attention function is called, before it is."""
    config = _config(module)
    if config is None or not hasattr(config, "_attn_implementation"):
        raise AttachError(
            f"{type(module).__name__} does not choose its attention by a `config`; expected an attention layer of a "
            "Hugging Face model, as in tower.encoder.layers[-2].self_attn"
        )
    with _GUARD:
        turn = _TURNS.setdefault(module, threading.RLock())
    with turn:
        if module in _LISTENED:
            raise AttachError(f"this {type(module).__name__} is being captured already; leave the other `with` first")
        _register()
        config = _config(module)  # another thread's turn may have ended meanwhile
        listened = copy.copy(config)
        # Not through the property, which would rename the attention of shared sub-configurations as well.
        listened._attn_implementation_internal = NAME
        original = _implementation(module, config._attn_implementation)
        _LISTENED[module] = _Listener(read, original, threading.get_ident())
        module.config = listened
        try:
            yield
        finally:
            module.config = config
            del _LISTENED[module]


def _config(module: nn.Module) -> Any:
    return getattr(module, "config", None)


def _register() -> None:
    from transformers import AttentionInterface

    if NAME not in AttentionInterface():
        AttentionInterface.register(NAME, _listened_attention)


def _implementation(module: nn.Module, name: str | None) -> Callable[..., Any]:
    """Return the attention function that the module would call, without us."""
    from transformers import AttentionInterface

    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    found = eager if name in (None, "eager") else AttentionInterface().get(name, eager)
    if found is None:
        raise AttachError(
            f"there is no {name or 'eager'} attention function behind {type(module).__name__}; set another one by "
            "model.set_attn_implementation('sdpa')"
        )
    return found


def _listened_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> Any:
    listener = _LISTENED.get(module)
    if listener is None:  # the listening thread left between this one's look at the configuration and its call
        original = _implementation(module, _config(module)._attn_implementation)
        return original(module, query, key, value, attention_mask, **kwargs)
    if listener.thread == threading.get_ident():
        listener.read(query, key, attention_mask, kwargs.get("scaling"))
    return listener.original(module, query, key, value, attention_mask, **kwargs)


def _same_for_all(mask: Tensor | None, q: Tensor, k: Tensor) -> Bool[Tensor, "b n"] | None:
    """Read an encoder's padding mask, which is the same for every query."""
    if mask is None:
        return None
    if mask.ndim == 2:
        return mask.bool()
    if mask.ndim == 4 and not mask.is_floating_point():
        rows = mask[:, 0].bool()
    elif mask.ndim == 4:
        rows = mask[:, 0] > torch.finfo(mask.dtype).min / 2
    else:
        raise AttachError(f"the layer's mask has shape {tuple(mask.shape)}; expected two axes or four")
    if rows.shape[1] > 1 and not torch.equal(rows, rows[:, :1].expand_as(rows)):
        raise AttachError(
            "the layer's mask differs between queries (causal or windowed), so that what a token receives is no mean "
            "over all; use language_attention for a language model"
        )
    return rows[:, 0].expand(q.shape[0], k.shape[2])


class _Stop(Exception):
    """Ends a partial forward; never seen by users."""


def language_attention(
    language_model: nn.Module, layer: int, kwargs: Mapping[str, Any], *, queries: Int[Tensor, " b"]
) -> Float[Tensor, "b length"]:
    """Return the attention that every position receives from one query of its row, mean over heads, in one layer.

    Runs `language_model(**kwargs)` up to the attention of decoder layer `layer` (0 = the first) and stops there:
    `kwargs` are those of the full, unpruned sequence (inputs_embeds, attention_mask, position_ids, ...); a cache among
    them is neither read nor written. `queries` gives each row's query, usually `last_tokens(attention_mask, ...)`.
    Without gradients. Cost: `layer` decoder layers and a part of one.
    """
    layers: Any = language_model.layers
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < len(layers):
        raise AttachError(f"language_layer is {layer!r}; it must be a whole number in 0..{len(layers) - 1}")
    result: list[Tensor] = []

    def read(q: Tensor, k: Tensor, mask: Tensor | None, scale: float | None) -> None:
        rows = torch.arange(q.shape[0], device=q.device)
        asked = q[rows, :, queries.to(q.device)].unsqueeze(2)
        result.append(received_attention(asked, k, scale=scale, allowed=_allowed(mask, queries.to(q.device), k)))
        raise _Stop

    clean = {name: value for name, value in kwargs.items() if name not in ("past_key_values", "use_cache")}
    with listen(attention_module(layers[layer]), read), torch.no_grad():
        try:
            language_model(**clean, use_cache=False)
        except _Stop:
            return result[0]
    raise AttachError(f"layer {layer} of {type(language_model).__name__} did not run; its attention cannot be read")


def _allowed(mask: Tensor | None, queries: Int[Tensor, " b"], k: Tensor) -> Bool[Tensor, "b length"]:
    """Which keys each row's query may attend to, from whatever mask the attention function was given."""
    batch, length = k.shape[0], k.shape[2]
    rows = torch.arange(batch, device=k.device)
    before = torch.arange(length, device=k.device) <= queries[:, None]
    if mask is None:
        return before
    if mask.ndim == 2:
        return before & mask.bool()
    chosen = mask.expand(batch, -1, -1, -1)[rows, 0, queries][:, :length]
    return chosen > torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() else chosen.bool()


def last_tokens(attention_mask: object, batch: int, length: int, device: torch.device) -> Int[Tensor, " b"]:
    """Return the position of each row's last token that is not padding, from a 2-D or 4-D mask or None."""
    return real_tokens(attention_mask, batch, length, device).long().cumsum(dim=1).argmax(dim=1)


def real_tokens(attention_mask: object, batch: int, length: int, device: torch.device) -> Bool[Tensor, "b length"]:
    """Return True where a position is no padding: a token that may attend to itself, for a 4-D mask."""
    mask = attention_mask.get("full_attention") if isinstance(attention_mask, Mapping) else attention_mask
    if mask is None:
        return torch.ones((batch, length), dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        given = f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise AttachError(f"the attention mask is {given}; expected (B, L), (B, 1, L, L) or None")
    if mask.ndim == 2:
        return mask[:, :length].bool().to(device)
    own = mask[:, 0].diagonal(dim1=1, dim2=2)[:, :length]
    own = own > torch.finfo(own.dtype).min / 2 if own.is_floating_point() else own.bool()
    return own.expand(batch, length).to(device)
