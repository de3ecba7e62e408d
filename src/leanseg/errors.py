"""The errors that leanseg raises on purpose: each says what was given, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LeansegError(ValueError):
    """Base of every error that a user can cause; the command line turns it into one line and exit code 2."""


class TokensError(LeansegError):
    """Visual tokens, a grid or a cue do not have the shape, dtype or values that they must have."""


class SelectionError(LeansegError):
    """A selection breaks one of its laws, or is applied to tensors that it does not fit."""


class BudgetError(LeansegError):
    """A keep ratio or a token count is out of range."""


class SpecError(LeansegError):
    """A pruner spec string cannot be read."""


class WeightsError(LeansegError):
    """Weights or a model configuration are missing, corrupt, or of another shape than the model's."""


class AttachError(LeansegError):
    """A Hugging Face model, or a call of it, cannot be pruned as asked."""


class InputError(LeansegError):
    """A picture, clip, instruction or path given by the user cannot be used."""


class DataError(LeansegError):
    """A data set's files are missing or malformed."""


class TrainingError(LeansegError):
    """A training run cannot start or resume with what it was given."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with close matches and every known name.

    >>> unknown_name("pruner", "evpt", ["evtp", "random"])
    "unknown pruner 'evpt'; did you mean 'evtp'? Known: evtp, random"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    return f"unknown {kind} {name!r}; {hint}Known: {', '.join(names)}"
