"""Instructions whose answer is nothing: names, categories, purposes and colours that the scene does not show."""

from __future__ import annotations

from leanseg.data.scenes.affordances import AFFORDANCES, affordance_sets
from leanseg.data.scenes.categories import CATEGORIES, members, unclear
from leanseg.data.scenes.items import ITEMS, N_TRAIN_ITEMS, SEPARATE, indefinite_article
from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.referring import Expression, Referring
from leanseg.data.scenes.sprites import TINTS

_NAMES_TRIED = 6


def absent(draw: Draw, referring: Referring) -> list[Expression]:
    """Return expressions of kind "no_target" for a layout; each asks for something that is certainly not there."""
    names = {item.item for item in referring.objects}
    found = []
    for _ in range(_NAMES_TRIED):
        item = ITEMS[draw.integer(0, N_TRAIN_ITEMS - 1)]
        alike = any(item.name in group and group & names for group in SEPARATE)
        if item.name not in names and not alike:
            found.append(_nothing("noun", item.name, item.plural))
    for category in CATEGORIES:
        if not (members(category.name) | unclear(category.name)) & referring.shown:
            found.append(_nothing("category", category.name, category.plural, 0.2))
    for number in range(len(AFFORDANCES)):
        inside, doubtful = affordance_sets(number)
        if not (inside | doubtful) & referring.shown:
            found.append(Expression("no_target", f"affordance:{number}", (), (), 0.15))
    for head in referring.nouns:
        tints = {referring.objects[k].tint for k in head.indices}
        if None not in tints:
            missing = draw.choice([tint for tint in TINTS if tint not in tints])
            found.append(Expression("no_target", "color", head.fields(c=missing), (), 4.0))
    return found


def _nothing(key: str, name: str, plural: str, weight: float = 1.0) -> Expression:
    fields = (("n", name), ("p", plural), ("a", indefinite_article(name)))
    return Expression("no_target", key, fields, (), weight)
