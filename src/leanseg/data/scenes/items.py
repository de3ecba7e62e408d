"""The things that scenes show: a hand-written name, plural and categories for each emoji drawing.

`ITEMS` holds the drawings of training scenes first and the held-out ones after them. The order is fixed: models and
pinned splits refer to items by index. A held-out item either is another drawing of a known name (`drawing_of`) or has
a name that no training instruction uses (`new_name`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One drawing: its Unicode code point (hexadecimal), its name and the categories that it belongs to directly."""

    codepoint: str
    name: str
    categories: tuple[str, ...] = ()
    irregular_plural: str | None = None
    held_out: bool = False
    drawing_of: str | None = None

    @property
    def plural(self) -> str:
        """The plural of the name, regular unless the table says otherwise."""
        return self.irregular_plural or regular_plural(self.name)

    @property
    def article(self) -> str:
        """The indefinite article that fits the name."""
        return indefinite_article(self.name)

    @property
    def new_name(self) -> bool:
        """Whether no training instruction can contain this name."""
        return self.held_out and self.drawing_of is None


def regular_plural(name: str) -> str:
    """Return the regular English plural of the last word.

    >>> regular_plural("cherry"), regular_plural("bus"), regular_plural("key")
    ('cherries', 'buses', 'keys')
    """
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + "es"
    return name + "s"


def indefinite_article(name: str) -> str:
    """Return "a" or "an" by the sound of the name's beginning.

    >>> indefinite_article("hourglass"), indefinite_article("unicorn"), indefinite_article("owl")
    ('an', 'a', 'an')
    """
    if name.startswith(("uni", "use", "eu", "one")):
        return "a"
    return "an" if name.startswith(("a", "e", "i", "o", "u", "hour")) else "a"


def _i(codepoint: str, name: str, categories: str = "", plural: str | None = None) -> Item:
    return Item(codepoint, name, tuple(categories.split(", ")) if categories else (), plural)


def _drawing(codepoint: str, base: str) -> Item:
    found = next(item for item in _TRAIN if item.name == base)
    return Item(codepoint, base, found.categories, found.irregular_plural, held_out=True, drawing_of=base)


def _new(codepoint: str, name: str, categories: str) -> Item:
    return Item(codepoint, name, tuple(categories.split(", ")), held_out=True)


_TRAIN: tuple[Item, ...] = (
    _i("1F415", "dog", "mammal"),
    _i("1F408", "cat", "mammal"),
    _i("1F40E", "horse", "mammal, farm animal"),
    _i("1F404", "cow", "mammal, farm animal"),
    _i("1F416", "pig", "mammal, farm animal"),
    _i("1F411", "sheep", "mammal, farm animal", "sheep"),
    _i("1F410", "goat", "mammal, farm animal"),
    _i("1F407", "rabbit", "mammal"),
    _i("1F401", "mouse", "mammal", "mice"),
    _i("1F418", "elephant", "mammal"),
    _i("1F412", "monkey", "mammal"),
    _i("1F42A", "camel", "mammal"),
    _i("1F405", "tiger", "mammal"),
    _i("1F992", "giraffe", "mammal"),
    _i("1F993", "zebra", "mammal"),
    _i("1F998", "kangaroo", "mammal"),
    _i("1F994", "hedgehog", "mammal"),
    _i("1F981", "lion", "mammal"),
    _i("1F98A", "fox", "mammal"),
    _i("1F43C", "panda", "mammal"),
    _i("1F428", "koala", "mammal"),
    _i("1F98D", "gorilla", "mammal"),
    _i("1F987", "bat", "mammal"),
    _i("1F98F", "rhinoceros", "mammal"),
    _i("1F98C", "deer", "mammal", "deer"),
    _i("1F40B", "whale", "mammal, sea animal"),
    _i("1F42C", "dolphin", "mammal, sea animal"),
    _i("1F413", "rooster", "bird, farm animal"),
    _i("1F986", "duck", "bird"),
    _i("1F985", "eagle", "bird"),
    _i("1F989", "owl", "bird"),
    _i("1F427", "penguin", "bird"),
    _i("1F99C", "parrot", "bird"),
    _i("1F99A", "peacock", "bird"),
    _i("1F9A9", "flamingo", "bird"),
    _i("1F9A2", "swan", "bird"),
    _i("1F420", "tropical fish", "fish", "tropical fish"),
    _i("1F421", "pufferfish", "fish", "pufferfish"),
    _i("1F988", "shark", "fish"),
    _i("1F422", "turtle", "reptile"),
    _i("1F40D", "snake", "reptile"),
    _i("1F98E", "lizard", "reptile"),
    _i("1F40A", "crocodile", "reptile"),
    _i("1F438", "frog", "animal"),
    _i("1F41D", "bee", "insect"),
    _i("1F98B", "butterfly", "insect"),
    _i("1F41C", "ant", "insect"),
    _i("1F41E", "ladybug", "insect"),
    _i("1F99F", "mosquito", "insect", "mosquitoes"),
    _i("1F40C", "snail", "animal"),
    _i("1F419", "octopus", "sea animal"),
    _i("1F980", "crab", "sea animal"),
    _i("1F982", "scorpion", "animal"),
    _i("1F577", "spider", "animal"),
    _i("1F409", "dragon"),
    _i("1F34E", "apple", "fruit"),
    _i("1F34C", "banana", "fruit"),
    _i("1F347", "bunch of grapes", "fruit", "bunches of grapes"),
    _i("1F349", "watermelon", "fruit"),
    _i("1F353", "strawberry", "fruit"),
    _i("1F34D", "pineapple", "fruit"),
    _i("1F350", "pear", "fruit"),
    _i("1F34B", "lemon", "fruit"),
    _i("1F95D", "kiwi", "fruit"),
    _i("1F34A", "tangerine", "fruit"),
    _i("1F955", "carrot", "vegetable"),
    _i("1F33D", "ear of corn", "vegetable", "ears of corn"),
    _i("1F966", "head of broccoli", "vegetable", "heads of broccoli"),
    _i("1F346", "eggplant", "vegetable"),
    _i("1F345", "tomato", "food item", "tomatoes"),
    _i("1F952", "cucumber", "vegetable"),
    _i("1F344", "mushroom"),
    _i("1F951", "avocado", "food item"),
    _i("1F355", "slice of pizza", "food item", "slices of pizza"),
    _i("1F354", "hamburger", "food item"),
    _i("1F32E", "taco", "food item"),
    _i("1F968", "pretzel", "food item"),
    _i("1F950", "croissant", "food item"),
    _i("1F35E", "loaf of bread", "food item", "loaves of bread"),
    _i("1F9C0", "wedge of cheese", "food item", "wedges of cheese"),
    _i("1F95A", "egg", "food item"),
    _i("1F95E", "stack of pancakes", "food item", "stacks of pancakes"),
    _i("1F35F", "box of fries", "food item", "boxes of fries"),
    _i("1F37F", "box of popcorn", "food item", "boxes of popcorn"),
    _i("1F9C1", "cupcake", "sweet treat"),
    _i("1F382", "birthday cake", "sweet treat"),
    _i("1F369", "donut", "sweet treat"),
    _i("1F36A", "cookie", "sweet treat"),
    _i("1F36B", "chocolate bar", "sweet treat"),
    _i("1F36C", "candy", "sweet treat"),
    _i("1F36D", "lollipop", "sweet treat"),
    _i("1F366", "ice cream cone", "sweet treat"),
    _i("2615", "cup of coffee", "drink", "cups of coffee"),
    _i("1F95B", "glass of milk", "drink", "glasses of milk"),
    _i("1F37A", "mug of beer", "drink", "mugs of beer"),
    _i("1F9C3", "juice box", "drink"),
    _i("1FAD6", "teapot"),
    _i("1F697", "car", "vehicle"),
    _i("1F68C", "bus", "vehicle"),
    _i("1F692", "fire truck", "vehicle"),
    _i("1F691", "ambulance", "vehicle"),
    _i("1F69A", "delivery truck", "vehicle"),
    _i("1F69C", "tractor", "vehicle"),
    _i("1F6B2", "bicycle", "vehicle"),
    _i("1F3CD", "motorcycle", "vehicle"),
    _i("1F682", "locomotive", "vehicle"),
    _i("1F68B", "tram", "vehicle"),
    _i("2708", "airplane", "aircraft"),
    _i("1F681", "helicopter", "aircraft"),
    _i("1F680", "rocket"),
    _i("26F5", "sailboat", "boat"),
    _i("1F6A4", "speedboat", "boat"),
    _i("1F6F6", "canoe", "boat"),
    _i("1F6A2", "ship", "vehicle"),
    _i("1F6F9", "skateboard"),
    _i("1F6F7", "sled"),
    _i("1F455", "t-shirt", "piece of clothing"),
    _i("1F456", "pair of jeans", "piece of clothing", "pairs of jeans"),
    _i("1F457", "dress", "piece of clothing"),
    _i("1F9E5", "coat", "piece of clothing"),
    _i("1F9E6", "pair of socks", "piece of clothing", "pairs of socks"),
    _i("1F9E4", "pair of gloves", "piece of clothing", "pairs of gloves"),
    _i("1F9E3", "scarf", "piece of clothing", "scarves"),
    _i("1F3A9", "top hat", "hat"),
    _i("1F9E2", "baseball cap", "hat"),
    _i("1F451", "crown"),
    _i("1F45F", "sneaker", "shoe"),
    _i("1F462", "boot"),
    _i("1F460", "high heel", "shoe"),
    _i("1F392", "backpack"),
    _i("1F453", "pair of glasses", "", "pairs of glasses"),
    _i("2602", "umbrella"),
    _i("1F3B8", "guitar", "musical instrument"),
    _i("1F3BB", "violin", "musical instrument"),
    _i("1F3BA", "trumpet", "musical instrument"),
    _i("1F941", "drum", "musical instrument"),
    _i("1F3B7", "saxophone", "musical instrument"),
    _i("26BD", "soccer ball", "ball"),
    _i("1F3C0", "basketball", "ball"),
    _i("26BE", "baseball", "ball"),
    _i("1F3D0", "volleyball", "ball"),
    _i("1F3C8", "american football", "ball"),
    _i("1FA81", "kite"),
    _i("1F3F9", "bow and arrow", "", "bows and arrows"),
    _i("1F3AF", "dartboard"),
    _i("1F3C6", "trophy"),
    _i("1F528", "hammer", "tool"),
    _i("1FA93", "axe", "tool"),
    _i("1F527", "wrench", "tool"),
    _i("1FA9B", "screwdriver", "tool"),
    _i("1FA9A", "saw", "tool"),
    _i("2702", "pair of scissors", "", "pairs of scissors"),
    _i("1F52A", "knife", "", "knives"),
    _i("1F511", "key"),
    _i("1F512", "padlock"),
    _i("1F9EF", "fire extinguisher"),
    _i("1F9F9", "broom"),
    _i("1F9FD", "sponge"),
    _i("1FAA3", "bucket"),
    _i("270F", "pencil"),
    _i("1F58C", "paintbrush"),
    _i("1F50D", "magnifying glass"),
    _i("1F52D", "telescope"),
    _i("1F52C", "microscope"),
    _i("1F489", "syringe"),
    _i("1FA7A", "stethoscope"),
    _i("1F48A", "pill"),
    _i("1F56F", "candle"),
    _i("1F526", "flashlight"),
    _i("1F4A1", "light bulb"),
    _i("1F4BB", "laptop", "electronic device"),
    _i("1F4F1", "mobile phone", "electronic device"),
    _i("260E", "telephone"),
    _i("1F4FA", "television", "electronic device"),
    _i("1F4F7", "camera"),
    _i("231A", "watch"),
    _i("23F0", "alarm clock"),
    _i("231B", "hourglass"),
    _i("1F3AE", "game controller", "electronic device"),
    _i("1FA91", "chair", "piece of furniture"),
    _i("1F6CB", "couch", "piece of furniture"),
    _i("1F6CF", "bed", "piece of furniture"),
    _i("1F9F8", "teddy bear"),
    _i("1F388", "balloon"),
    _i("1F381", "gift"),
    _i("1F4D5", "book"),
    _i("1F4F0", "newspaper"),
    _i("1F6D2", "shopping cart"),
    _i("1F4B0", "bag of money", "", "bags of money"),
    _i("1F4B3", "credit card"),
    _i("1F514", "bell"),
    _i("1F332", "pine tree", "tree"),
    _i("1F334", "palm tree", "tree"),
    _i("1F335", "cactus", "plant", "cactuses"),
    _i("1F337", "tulip", "flower"),
    _i("1F339", "rose", "flower"),
    _i("1F33B", "sunflower", "flower"),
    _i("2B50", "star"),
    _i("1F319", "crescent moon"),
    _i("2744", "snowflake"),
    _i("26C4", "snowman", "", "snowmen"),
    _i("1F525", "flame"),
    _i("1F3E0", "house", "building"),
    _i("1F3F0", "castle", "building"),
    _i("26EA", "church", "building"),
    _i("1F3ED", "factory", "building"),
    _i("26FA", "tent"),
    _i("1F47B", "ghost"),
    _i("1F916", "robot"),
    _i("1F383", "carved pumpkin"),
)

_HELD_OUT: tuple[Item, ...] = (
    _drawing("1F436", "dog"),
    _drawing("1F431", "cat"),
    _drawing("1F434", "horse"),
    _drawing("1F42E", "cow"),
    _drawing("1F437", "pig"),
    _drawing("1F430", "rabbit"),
    _drawing("1F42D", "mouse"),
    _drawing("1F435", "monkey"),
    _drawing("1F42F", "tiger"),
    _drawing("1F433", "whale"),
    _drawing("1F42B", "camel"),
    _drawing("1F34F", "apple"),
    _drawing("1F698", "car"),
    _drawing("1F68D", "bus"),
    _drawing("1F69B", "delivery truck"),
    _drawing("1F97E", "boot"),
    _drawing("1F513", "padlock"),
    _drawing("23F3", "hourglass"),
    _drawing("1F4D8", "book"),
    _drawing("1F3E1", "house"),
    _drawing("1F4F8", "camera"),
    _drawing("1F31F", "star"),
    _new("1F9A5", "sloth", "mammal"),
    _new("1F99B", "hippopotamus", "mammal"),
    _new("1F997", "cricket", "insect"),
    _new("1F990", "shrimp", "sea animal"),
    _new("1F96D", "mango", "fruit"),
    _new("1F96F", "bagel", "food item"),
    _new("1F695", "taxi", "vehicle"),
    _new("26F4", "ferry", "vehicle"),
    _new("1FA95", "banjo", "musical instrument"),
    _new("1F338", "cherry blossom", "flower"),
)

ITEMS: tuple[Item, ...] = _TRAIN + _HELD_OUT
N_TRAIN_ITEMS: int = len(_TRAIN)

SEPARATE: tuple[frozenset[str], ...] = (
    frozenset({"car", "taxi"}),
    frozenset({"baseball", "baseball cap"}),
    frozenset({"mobile phone", "telephone"}),
    frozenset({"sailboat", "ship", "ferry", "speedboat"}),
    frozenset({"panda", "teddy bear"}),
    frozenset({"dragon", "lizard", "crocodile"}),
    frozenset({"snowflake", "star"}),
    frozenset({"birthday cake", "cupcake", "candle", "flame"}),
    frozenset({"snowman", "top hat"}),
    frozenset({"lion", "tiger", "cat"}),
    frozenset({"guitar", "violin", "banjo"}),
    frozenset({"donut", "bagel"}),
    frozenset({"monkey", "gorilla"}),
    frozenset({"tropical fish", "pufferfish"}),
    frozenset({"candy", "lollipop"}),
    frozenset({"candy", "chocolate bar"}),
    frozenset({"birthday cake", "strawberry"}),
    frozenset({"rocket", "star"}),
    frozenset({"rocket", "flame"}),
    frozenset({"fire extinguisher", "flame"}),
)
"""Names that never share a scene.

One picture could pass for the other, one name could be meant by the other (a lollipop is a candy), one word lies inside
the other, or one drawing shows the other thing (strawberries on the birthday cake).
"""


def class_index(item_index: int) -> int:
    """Return the index of the name's first drawing, so that two drawings of one name share a class."""
    base = ITEMS[item_index].drawing_of
    return item_index if base is None else next(k for k, item in enumerate(ITEMS) if item.name == base)
