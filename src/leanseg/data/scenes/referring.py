"""Everything that can be asked about a layout: expressions with their exact sets of objects.

An expression is offered only where its answer is beyond doubt: all its objects are usable, comparisons hold with a
margin, and no item of unclear membership is in the scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from leanseg.data.scenes.affordances import AFFORDANCES, affordance_sets
from leanseg.data.scenes.categories import CATEGORIES, members, unclear
from leanseg.data.scenes.items import ITEMS, class_index, indefinite_article
from leanseg.data.scenes.phrasing import NUMBERS, ORDINALS
from leanseg.data.scenes.scene import SceneObject
from leanseg.data.scenes.sprites import filled_side

RELATIONS = ("left", "right", "above", "below", "closest", "farthest")
SIZE_MARGIN = 1.2
AREA_MARGIN = 1.1
POSITION_MARGIN = 0.08
RELATION_MARGIN = 0.06
RELATION_CLEARANCE = 0.02
DISTANCE_MARGIN = 1.3
ORDINAL_MARGIN = 0.05

_ENDS = (("leftmost", 1, 1), ("rightmost", 1, -1), ("topmost", 0, 1), ("bottommost", 0, -1))
_SIDES = (("left", 1, 1), ("right", 1, -1), ("top", 0, 1), ("bottom", 0, -1))
_WEIGHT = {"noun": 1.0, "category": 0.4, "object": 0.3}


@dataclass(frozen=True)
class Expression:
    """A template family with its words, and the objects that it means."""

    kind: str
    key: str
    fields: tuple[tuple[str, str], ...]
    targets: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class _Head:
    """A group of objects with the words for one and for several of them."""

    level: str
    name: str
    plural: str
    indices: tuple[int, ...]

    def fields(self, **more: str) -> tuple[tuple[str, str], ...]:
        count = NUMBERS.get(len(self.indices), "many")
        return (("n", self.name), ("p", self.plural), ("a", indefinite_article(self.name)), ("count", count),
                *more.items())  # fmt: skip


def held_out_relation(item_index: int, relation: str) -> bool:
    """Return whether training never asks for this name by this relation (one pair in ten)."""
    return (class_index(item_index) * 31 + RELATIONS.index(relation) * 17) % 10 == 3


class Referring:
    """The expressions of one layout; `relations` chooses training or held-out (name, relation) pairs."""

    def __init__(self, objects: tuple[SceneObject, ...], relations: str = "train") -> None:
        self.objects = objects
        self.relations = relations
        self.shown = {item.item_index for item in objects}
        self.nouns = self._nouns()
        self.categories = self._categories()

    def expressions(self) -> list[Expression]:
        """Return every expression of the kinds that hold in a still picture."""
        parts = (self._noun(), self._attribute(), self._position(), self._color(), self._relation(),
                 self._category(), self._affordance(), self._except(), self._ordinal())  # fmt: skip
        return [expression for part in parts for expression in part]

    def layout_expressions(self) -> list[Expression]:
        """Return the expressions about places and sizes, which motion can make false."""
        parts = (self._attribute(), self._position(), self._relation(), self._ordinal())
        return [expression for part in parts for expression in part]

    def _nouns(self) -> tuple[_Head, ...]:
        names: dict[str, list[int]] = {}
        for index, item in enumerate(self.objects):
            if not ITEMS[item.item_index].new_name:
                names.setdefault(item.item, []).append(index)
        return tuple(
            _Head("noun", name, ITEMS[self.objects[indices[0]].item_index].plural, tuple(indices))
            for name, indices in names.items()
        )

    def _categories(self) -> tuple[_Head, ...]:
        heads = []
        for category in CATEGORIES:
            inside = members(category.name) & self.shown
            if inside and not unclear(category.name) & self.shown:
                indices = tuple(k for k, item in enumerate(self.objects) if item.item_index in inside)
                heads.append(_Head("category", category.name, category.plural, indices))
        return tuple(heads)

    def heads(self, least: int) -> Iterator[_Head]:
        """Yield groups of at least `least` objects, all usable: names, categories of several names, all objects."""
        everything = _Head("object", "object", "objects", tuple(range(len(self.objects))))
        for head in (*self.nouns, *self.categories, everything):
            several = head.level == "noun" or len({self.objects[k].item for k in head.indices}) > 1
            if len(head.indices) >= least and several and self._usable(head.indices):
                yield head

    def _usable(self, indices: tuple[int, ...]) -> bool:
        return all(self.objects[k].usable for k in indices)

    def _noun(self) -> Iterator[Expression]:
        for head in self.nouns:
            if self._usable(head.indices):
                count = len(head.indices)
                kind, key = ("noun", "noun") if count == 1 else ("all", "both" if count == 2 else "all")
                yield Expression(kind, key, head.fields(), head.indices)

    def _attribute(self) -> Iterator[Expression]:
        for head in self.heads(2):
            for key, sign in (("largest", -1), ("smallest", 1)):
                ordered = sorted(head.indices, key=lambda k: sign * self.objects[k].size)
                if self._differs_in_size(ordered[0], ordered[1:], sign, head.level):
                    yield Expression("attribute", key, head.fields(), (ordered[0],), _WEIGHT[head.level])

    def _differs_in_size(self, first: int, others: list[int], sign: int, level: str) -> bool:
        """Return whether one is plainly larger (sign -1) or smaller (1): by side and, among several names, by area."""
        size, area = self.objects[first].size, self._area_side(first)
        for other in others:
            sides = [(self.objects[other].size, size, SIZE_MARGIN)]
            if level != "noun":
                sides.append((self._area_side(other), area, AREA_MARGIN))
            if any((theirs / own) ** sign < margin for theirs, own, margin in sides):
                return False
        return True

    def _area_side(self, index: int) -> float:
        """Return the side of a square as large as the object's whole silhouette."""
        item = self.objects[index]
        return item.size * filled_side(item.item_index)

    def _position(self) -> Iterator[Expression]:
        for head in self.heads(2):
            for key, axis, sign in _ENDS:
                ordered = sorted(head.indices, key=lambda k: sign * self.objects[k].center[axis])
                gap = sign * (self.objects[ordered[1]].center[axis] - self.objects[ordered[0]].center[axis])
                if gap >= POSITION_MARGIN and self._reaches_farthest(ordered[0], ordered[1:], axis, sign):
                    yield Expression("position", key, head.fields(), (ordered[0],), _WEIGHT[head.level])

    def _reaches_farthest(self, first: int, others: list[int], axis: int, sign: int) -> bool:
        """Return whether the first also has the outermost edge, so that a large neighbour raises no doubt."""
        reach = [sign * self.objects[k].center[axis] - self.objects[k].size / 2 for k in (first, *others)]
        return reach[0] <= min(reach)

    def _ordinal(self) -> Iterator[Expression]:
        for head in self.nouns:
            if len(head.indices) < 3 or not self._usable(head.indices):
                continue
            for side, axis, sign in _SIDES:
                ordered = sorted(head.indices, key=lambda k: sign * self.objects[k].center[axis])
                places = [sign * self.objects[k].center[axis] for k in ordered]
                if min(b - a for a, b in pairwise(places)) < ORDINAL_MARGIN:
                    continue
                for place, index in enumerate(ordered[: len(ORDINALS)]):
                    yield Expression("ordinal", "ordinal", head.fields(o=ORDINALS[place], side=side), (index,))

    def _color(self) -> Iterator[Expression]:
        for head in self.nouns:
            tints = [self.objects[k].tint for k in head.indices]
            if len(head.indices) < 2 or None in tints or not self._usable(head.indices):
                continue
            for tint in dict.fromkeys(tints):
                if tint is not None:
                    targets = tuple(k for k in head.indices if self.objects[k].tint == tint)
                    key = "color" if len(targets) == 1 else "color_all"
                    if len(targets) < len(head.indices):
                        yield Expression("color", key, head.fields(c=tint), targets)

    def _relation(self) -> Iterator[Expression]:
        anchors = [head for head in self.nouns if len(head.indices) == 1 and self._usable(head.indices)]
        for head in self.nouns:
            if len(head.indices) < 2 or not self._usable(head.indices):
                continue
            for anchor in anchors:
                for relation in RELATIONS:
                    held_out = held_out_relation(self.objects[head.indices[0]].item_index, relation)
                    target = self._related(head.indices, anchor.indices[0], relation)
                    if target is not None and held_out == (self.relations == "heldout"):
                        yield Expression("relation", relation, head.fields(m=anchor.name), (target,))

    def _related(self, indices: tuple[int, ...], anchor: int, relation: str) -> int | None:
        """Return the one object of `indices` in this relation to the anchor, None where that is not certain."""
        origin = self.objects[anchor].center
        offsets = {k: (self.objects[k].center[0] - origin[0], self.objects[k].center[1] - origin[1]) for k in indices}
        if relation in ("closest", "farthest"):
            ordered = sorted(indices, key=lambda k: offsets[k][0] ** 2 + offsets[k][1] ** 2)
            squares = [offsets[k][0] ** 2 + offsets[k][1] ** 2 for k in ordered]
            if relation == "closest":
                return ordered[0] if squares[1] >= DISTANCE_MARGIN**2 * squares[0] else None
            return ordered[-1] if squares[-1] >= DISTANCE_MARGIN**2 * squares[-2] else None
        axis = 1 if relation in ("left", "right") else 0
        sign = -1 if relation in ("left", "above") else 1
        along = {k: sign * offsets[k][axis] for k in indices}
        inside = [k for k in indices if along[k] > -RELATION_CLEARANCE]
        if len(inside) != 1 or along[inside[0]] < RELATION_MARGIN:
            return None
        return inside[0] if along[inside[0]] >= 0.5 * abs(offsets[inside[0]][1 - axis]) else None

    def _category(self) -> Iterator[Expression]:
        for head in self.categories:
            if self._usable(head.indices):
                key = "category_one" if len(head.indices) == 1 else "category"
                yield Expression("category", key, head.fields(), head.indices)

    def _affordance(self) -> Iterator[Expression]:
        for number in range(len(AFFORDANCES)):
            inside, doubtful = affordance_sets(number)
            if doubtful & self.shown or not inside & self.shown:
                continue
            targets = tuple(k for k, item in enumerate(self.objects) if item.item_index in inside)
            if self._usable(targets):
                yield Expression("affordance", f"affordance:{number}", (), targets)

    def _except(self) -> Iterator[Expression]:
        for head in self.heads(2):
            for noun in self.nouns:
                rest = tuple(k for k in head.indices if k not in noun.indices)
                if head.level == "noun" or not rest or not set(noun.indices) <= set(head.indices):
                    continue
                key = "except_one" if len(noun.indices) == 1 else "except_many"
                fields = head.fields(m=noun.name, q=noun.plural)
                yield Expression("except", key, fields, rest, _WEIGHT[head.level])
