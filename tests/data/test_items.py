import hashlib

import pytest

from leanseg.data.scenes.affordances import AFFORDANCES, affordance_sets
from leanseg.data.scenes.categories import CATEGORIES, category, members, unclear
from leanseg.data.scenes.items import ITEMS, N_TRAIN_ITEMS, SEPARATE, class_index

NAMES = {item.name for item in ITEMS} | {entry.name for entry in CATEGORIES}


def index(name: str) -> int:
    return next(k for k, item in enumerate(ITEMS) if item.name == name)


def test_the_order_of_items_never_changes():
    order = ",".join(item.codepoint for item in ITEMS)
    assert (N_TRAIN_ITEMS, len(ITEMS)) == (210, 242)
    assert hashlib.sha256(order.encode()).hexdigest()[:16] == "acd473c3d3850741"


def test_training_items_have_names_of_their_own_and_come_first():
    train = ITEMS[:N_TRAIN_ITEMS]
    assert len({item.name for item in train}) == len(train)
    assert len({item.codepoint for item in ITEMS}) == len(ITEMS)
    assert not any(item.held_out for item in train) and all(item.held_out for item in ITEMS[N_TRAIN_ITEMS:])


@pytest.mark.parametrize(
    ("name", "plural", "article"),
    [
        ("dog", "dogs", "a"),
        ("mouse", "mice", "a"),
        ("sheep", "sheep", "a"),
        ("knife", "knives", "a"),
        ("snowman", "snowmen", "a"),
        ("candy", "candies", "a"),
        ("box of fries", "boxes of fries", "a"),
        ("ear of corn", "ears of corn", "an"),
        ("hourglass", "hourglasses", "an"),
        ("umbrella", "umbrellas", "an"),
        ("tomato", "tomatoes", "a"),
        ("bus", "buses", "a"),
        ("octopus", "octopuses", "an"),
        ("loaf of bread", "loaves of bread", "a"),
    ],
)
def test_plurals_and_articles(name: str, plural: str, article: str):
    item = ITEMS[index(name)]
    assert (item.plural, item.article) == (plural, article)


def test_names_of_several_words_have_a_plural_of_the_right_word():
    for item in ITEMS:
        head, of, rest = item.name.partition(" of ")
        if of:
            assert item.plural.endswith(of + rest) and item.plural != item.name
            assert item.plural.partition(" of ")[0] != head


def test_every_word_that_a_set_uses_is_an_item_or_a_category():
    for entry in CATEGORIES:
        assert set(entry.unclear) <= NAMES
        assert entry.parent is None or entry.parent in NAMES
    for affordance in AFFORDANCES:
        assert set(affordance.includes) | set(affordance.unclear) <= NAMES
        assert len(set(affordance.phrases)) == len(affordance.phrases) >= 4
    for item in ITEMS:
        assert {category(name).name for name in item.categories} == set(item.categories)
    for group in SEPARATE:
        assert group <= NAMES


def test_categories_include_what_lies_below_them():
    assert {index("eagle"), index("bee"), index("shark"), index("frog"), index("dog")} <= members("animal")
    assert index("apple") in members("food item") and index("cupcake") in members("food item")
    assert index("helicopter") in members("vehicle") and index("canoe") in members("vehicle")
    assert index("dog") not in members("bird") and index("spider") not in members("insect")
    for entry in CATEGORIES:
        if entry.parent:
            assert members(entry.name) < members(entry.parent)


def test_what_is_unclear_is_neither_in_nor_out():
    assert index("tomato") in unclear("fruit") and index("tomato") in members("food item")
    assert index("whale") in unclear("fish") and index("whale") in members("sea animal")
    for entry in CATEGORIES:
        assert not members(entry.name) & unclear(entry.name)
    for number in range(len(AFFORDANCES)):
        inside, doubtful = affordance_sets(number)
        assert inside and not inside & doubtful
        assert inside & set(range(N_TRAIN_ITEMS))


@pytest.mark.parametrize(
    ("shown", "doubtful"),
    [
        ("house", "tree"),
        ("sloth", "plant"),
        ("birthday cake", "fruit"),
        ("boot", "shoe"),
        ("couch", "electronic device"),
    ],
)
def test_a_drawing_that_shows_more_than_its_subject_is_unclear(shown: str, doubtful: str):
    drawings = {k for k, item in enumerate(ITEMS) if item.name == shown}
    assert drawings <= unclear(doubtful)


@pytest.mark.parametrize(
    "pair", [("candy", "lollipop"), ("donut", "bagel"), ("birthday cake", "strawberry"), ("rocket", "star")]
)
def test_names_that_one_picture_could_answer_never_share_a_scene(pair: tuple[str, str]):
    assert any(set(pair) <= group for group in SEPARATE)


def test_two_drawings_of_one_name_share_a_class():
    other = next(k for k, item in enumerate(ITEMS) if item.drawing_of == "dog")
    assert class_index(other) == index("dog") == class_index(index("dog"))
    assert {ITEMS[class_index(k)].name == item.name for k, item in enumerate(ITEMS)} == {True}
