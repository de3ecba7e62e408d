"""The hierarchy of categories, and which drawings a careful reader would not dare to decide.

A category includes the items that name it and, recursively, the categories below it. `unclear` lists the items (or
whole categories) that one person would count and another would not; an instruction that names the category is never
given for a scene that shows one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from leanseg.data.scenes.items import ITEMS, indefinite_article, regular_plural


@dataclass(frozen=True)
class Category:
    """A named set of items; `parent` is the category that includes it."""

    name: str
    parent: str | None = None
    unclear: tuple[str, ...] = ()
    irregular_plural: str | None = None

    @property
    def plural(self) -> str:
        """The plural of the name."""
        return self.irregular_plural or regular_plural(self.name)

    @property
    def article(self) -> str:
        """The indefinite article that fits the name."""
        return indefinite_article(self.name)


_GARDEN = ("tomato", "avocado", "mushroom", "carved pumpkin")

CATEGORIES: tuple[Category, ...] = (
    Category("animal", None, ("dragon", "teddy bear", "snowman")),
    Category("mammal", "animal", ("dragon", "teddy bear")),
    Category("bird", "animal", ("bat", "dragon")),
    Category("fish", "sea animal", ("whale", "dolphin", "sea animal"), "fish"),
    Category("insect", "animal", ("spider", "scorpion", "snail")),
    Category("reptile", "animal", ("frog", "dragon")),
    Category("sea animal", "animal", ("turtle", "crocodile", "frog", "penguin", "swan", "duck", "flamingo")),
    Category(
        "farm animal",
        "animal",
        ("duck", "rabbit", "dog", "cat", "mouse", "camel", "bee", "peacock", "swan", "deer", "fox"),
    ),
    Category(
        "food item",
        None,
        (*_GARDEN, "drink", "teapot", "snail", "frog", "turtle", "sea animal", "farm animal", "duck", "deer", "rabbit"),
    ),
    Category("fruit", "food item", (*_GARDEN, "vegetable", "juice box", "birthday cake"), "fruits"),
    Category("vegetable", "food item", (*_GARDEN, "box of fries", "box of popcorn", "hamburger", "taco")),
    Category(
        "sweet treat",
        "food item",
        ("stack of pancakes", "croissant", "pretzel", "fruit", "box of popcorn", "juice box"),
    ),
    Category("drink", None, ("teapot", "ice cream cone")),
    Category(
        "vehicle",
        None,
        ("rocket", "skateboard", "sled", "shopping cart", "horse", "camel", "elephant"),
    ),
    Category("aircraft", "vehicle", ("rocket", "kite", "balloon"), "aircraft"),
    Category("boat", "vehicle", ("ship", "ferry")),
    Category(
        "piece of clothing",
        None,
        ("crown", "backpack", "pair of glasses", "watch", "umbrella", "shoe", "boot", "hat"),
        "pieces of clothing",
    ),
    Category("shoe", None, ("boot", "pair of socks")),
    Category("hat", None, ("crown", "snowman")),
    Category("musical instrument", None, ("bell", "bow and arrow")),
    Category("ball", None, ("dartboard",)),
    Category(
        "tool",
        None,
        (
            "pair of scissors",
            "knife",
            "key",
            "padlock",
            "fire extinguisher",
            "broom",
            "sponge",
            "bucket",
            "pencil",
            "paintbrush",
            "magnifying glass",
            "telescope",
            "microscope",
            "syringe",
            "stethoscope",
            "flashlight",
            "bow and arrow",
            "electronic device",
            "camera",
            "umbrella",
            "candle",
            "light bulb",
        ),
    ),
    Category(
        "electronic device",
        None,
        (
            "telephone",
            "camera",
            "watch",
            "alarm clock",
            "flashlight",
            "light bulb",
            "robot",
            "guitar",
            "microscope",
            "couch",
        ),
    ),
    Category("piece of furniture", None, ("television",), "pieces of furniture"),
    Category("plant", None, ("fruit", "vegetable", *_GARDEN, "house", "sloth")),
    Category("flower", "plant", ("cactus", "house")),
    Category("tree", "plant", ("cactus", "house", "sloth")),
    Category("building", None, ("tent",)),
)

_BY_NAME = {category.name: category for category in CATEGORIES}


def category(name: str) -> Category:
    """Return the category of this name."""
    return _BY_NAME[name]


@cache
def members(name: str) -> frozenset[int]:
    """Return the indices of all items in a category, those of the categories below it included."""
    below = [child.name for child in CATEGORIES if child.parent == name]
    own = {index for index, item in enumerate(ITEMS) if name in item.categories}
    return frozenset(own.union(*(members(child) for child in below)))


def expand(names: tuple[str, ...]) -> frozenset[int]:
    """Return the indices of items given by item or category names."""
    found: set[int] = set()
    for name in names:
        if name in _BY_NAME:
            found |= members(name)
        else:
            found |= {index for index, item in enumerate(ITEMS) if item.name == name}
    return frozenset(found)


@cache
def unclear(name: str) -> frozenset[int]:
    """Return the indices of the items of which it is unclear whether they belong to a category."""
    return expand(category(name).unclear) - members(name)
