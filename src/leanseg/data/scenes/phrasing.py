"""The sentences: templates for each kind of instruction, those held out of training apart from the others."""

from __future__ import annotations

from collections.abc import Iterable

from leanseg.data.scenes.affordances import AFFORDANCES
from leanseg.data.scenes.randomness import Draw

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}

PREFIXES = ("find ", "segment ", "show me ", "please mark ")
HELD_OUT_PREFIXES = ("outline ",)
_BARE = 0.6

TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (("the {n}", "the only {n}", "{a} {n}"), ("the one {n} in the picture",)),
    "all": (("every {n}", "all {p}", "all the {p}", "each {n}", "the {count} {p}"), ("each of the {p}",)),
    "both": (("both {p}", "the two {p}", "every {n}", "all the {p}"), ("each of the two {p}",)),
    "largest": (("the largest {n}", "the biggest {n}"), ("the {n} that looks biggest",)),
    "smallest": (("the smallest {n}", "the tiniest {n}"), ("the {n} that looks smallest",)),
    "leftmost": (("the leftmost {n}", "the {n} on the far left", "the {n} farthest to the left"),
                 ("the {n} nearest to the left edge",)),
    "rightmost": (("the rightmost {n}", "the {n} on the far right", "the {n} farthest to the right"),
                  ("the {n} nearest to the right edge",)),
    "topmost": (("the topmost {n}", "the highest {n}", "the {n} at the top"), ("the {n} nearest to the top edge",)),
    "bottommost": (("the bottommost {n}", "the lowest {n}", "the {n} at the bottom"),
                   ("the {n} nearest to the bottom edge",)),
    "color": (("the {c} {n}", "the {n} that is {c}", "the {n} painted {c}"), ("the {n} with the {c} color",)),
    "color_all": (("every {c} {n}", "all {c} {p}", "all the {c} {p}"), ("each of the {c} {p}",)),
    "left": (("the {n} to the left of the {m}", "the {n} left of the {m}"), ("the {n} on the left side of the {m}",)),
    "right": (("the {n} to the right of the {m}", "the {n} right of the {m}"),
              ("the {n} on the right side of the {m}",)),
    "above": (("the {n} above the {m}", "the {n} higher than the {m}"), ("the {n} over the {m}",)),
    "below": (("the {n} below the {m}", "the {n} lower than the {m}"), ("the {n} under the {m}",)),
    "closest": (("the {n} closest to the {m}", "the {n} nearest to the {m}"),
                ("the {n} at the shortest distance from the {m}",)),
    "farthest": (("the {n} farthest from the {m}", "the {n} farthest away from the {m}"),
                 ("the {n} at the greatest distance from the {m}",)),
    "category_one": (("the {n}", "the only {n}", "{a} {n}"), ("the one {n} in the picture",)),
    "category": (("every {n}", "all {p}", "all the {p}", "each {n}"), ("everything that is {a} {n}",)),
    "except_one": (("every {n} except the {m}", "all {p} except the {m}", "all the {p} but the {m}"),
                   ("all {p} apart from the {m}",)),
    "except_many": (("every {n} except the {q}", "all {p} except the {q}", "all the {p} but the {q}"),
                    ("all {p} apart from the {q}",)),
    "ordinal": (("the {o} {n} from the {side}", "the {n} that is {o} from the {side}"),
                ("counting from the {side}, the {o} {n}",)),
    "moves": (("the {n} that moves {way}", "the {n} moving {way}"), ("the {n} that is on its way {way}",)),
    "moving": (("the {n} that moves", "the moving {n}"), ("the {n} that changes its place",)),
    "still": (("the {n} that stays still", "the {n} that does not move"), ("the {n} that keeps its place",)),
    "fastest": (("the fastest {n}", "the {n} that moves fastest"), ("the {n} with the highest speed",)),
}  # fmt: skip

TASK_FAMILIES = ("noun", "all", "both", "category_one", "category")
"""Families of the instructions of `TASK_KINDS`, beside affordances."""

# What fills the fields of the other families, beside names.
_FILLERS = (*ORDINALS, "a an object objects picture", "left right top bottom up down")


def render(draw: Draw, key: str, fields: dict[str, str], phrasings: str = "train") -> str:
    """Return a sentence of the template family `key`; affordances are keys "affordance:<index>"."""
    held_out = phrasings == "heldout"
    if key.startswith("affordance:"):
        phrases = AFFORDANCES[int(key.partition(":")[2])].phrases
        text = phrases[-1] if held_out else draw.choice(phrases[:-1])
        nominal = text.startswith("whatever") or (text.startswith("what ") and not text.endswith("?"))
    else:
        text = draw.choice(TEMPLATES[key][1 if held_out else 0]).format(**fields)
        nominal = not text.startswith("counting")
    if not nominal or draw.chance(_BARE):
        return text
    return draw.choice(HELD_OUT_PREFIXES if held_out else PREFIXES) + text


def vocabulary() -> tuple[str, ...]:
    """Return every word that any instruction can contain, held-out sentences and names included, in order."""
    from leanseg.data.scenes.sprites import TINTS

    texts = [*_names(), *TINTS, *_FILLERS, *NUMBERS.values(), *PREFIXES, *HELD_OUT_PREFIXES, *_sentences(TEMPLATES)]
    texts += [phrase for affordance in AFFORDANCES for phrase in affordance.phrases]
    return _all_words(texts)


def words_beyond_tasks() -> tuple[str, ...]:
    """Return the words of place, size, color and the like that training for `TASK_KINDS` alone does not teach.

    >>> {"leftmost", "largest", "red", "except"} <= set(words_beyond_tasks()), "apple" in words_beyond_tasks()
    (True, False)
    """
    from leanseg.data.scenes.sprites import TINTS

    shown = [*_names(), *NUMBERS.values(), *PREFIXES, "a an", *_sentences(TASK_FAMILIES)]
    shown += [phrase for affordance in AFFORDANCES for phrase in affordance.phrases[:-1]]
    others = [*TINTS, *_FILLERS, *_sentences(key for key in TEMPLATES if key not in TASK_FAMILIES)]
    return tuple(sorted(set(_all_words(others)) - set(_all_words(shown))))


def _names() -> list[str]:
    from leanseg.data.scenes.categories import CATEGORIES
    from leanseg.data.scenes.items import ITEMS

    names = [(item.name, item.plural) for item in ITEMS] + [(each.name, each.plural) for each in CATEGORIES]
    return [name for both in names for name in both]


def _sentences(families: Iterable[str]) -> list[str]:
    """Return the templates of these families without their fields, those held out included."""
    templates = [template for key in families for part in TEMPLATES[key] for template in part]
    return [" ".join(word for word in template.split() if "{" not in word) for template in templates]


def _all_words(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for text in texts for word in words(text)}))


def words(text: str) -> list[str]:
    """Split a sentence into words and marks.

    >>> words("counting from the left, the t-shirt?")
    ['counting', 'from', 'the', 'left', ',', 'the', 't-shirt', '?']
    """
    return text.replace(",", " ,").replace("?", " ?").split()
