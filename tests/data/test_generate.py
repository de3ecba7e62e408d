import random
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from leanseg.data.scenes import KINDS, TASK_KINDS, Scene, SceneOptions, generate_scene
from leanseg.data.scenes.affordances import AFFORDANCES, affordance_sets
from leanseg.data.scenes.categories import CATEGORIES, members, unclear
from leanseg.data.scenes.items import ITEMS, N_TRAIN_ITEMS
from leanseg.data.scenes.phrasing import HELD_OUT_PREFIXES, PREFIXES, TEMPLATES, vocabulary, words, words_beyond_tasks
from leanseg.data.scenes.referring import RELATIONS, Referring, held_out_relation
from leanseg.data.scenes.scene import SceneObject
from leanseg.data.scenes.sprites import filled_side
from leanseg.errors import InputError

SEEDS = range(7000, 7060)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed) for seed in SEEDS]


def pattern(template: str) -> re.Pattern[str]:
    names = re.sub(r"\\\{([nmpq])\\\}", r"(?P<\1>.+)", re.escape(template))
    names = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\w+)", names)
    return re.compile(names)


def bare(text: str) -> str:
    for prefix in (*PREFIXES, *HELD_OUT_PREFIXES):
        text = text.removeprefix(prefix)
    return text


SINGULARS = {item.name for item in ITEMS} | {entry.name for entry in CATEGORIES} | {"object"}
PLURALS = {item.plural for item in ITEMS} | {entry.plural for entry in CATEGORIES} | {"objects"}
PATTERNS = {key: tuple(tuple(pattern(one) for one in part) for part in parts) for key, parts in TEMPLATES.items()}


def parsed(text: str, keys: Iterable[str], part: int = 0) -> list[tuple[str, dict[str, str]]]:
    """Every way to read the sentence as one of the template families with names that exist."""
    found = []
    for key in keys:
        for match in (one.fullmatch(bare(text)) for one in PATTERNS[key][part]):
            fields = match.groupdict() if match else {}
            known = all(fields[f] in (SINGULARS if f in "nm" else PLURALS) for f in fields if f in "nmpq")
            if match and known:
                found.append((key, fields))
    return found


def test_the_same_seed_gives_the_same_bytes_and_leaves_global_randomness_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    random.seed(1)
    first = generate_scene(5)
    random.seed(2)
    second, other = generate_scene(5), generate_scene(6)
    assert np.random.get_state()[1].tolist() == before
    assert np.array_equal(first.image, second.image) and np.array_equal(first.masks, second.masks)
    assert first.instructions == second.instructions and first.objects == second.objects
    assert not np.array_equal(first.image, other.image)


def test_arrays_and_objects_fit_each_other(scenes: list[Scene]):
    for scene in scenes:
        assert scene.image.shape == (192, 192, 3) and scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.objects), 192, 192) and scene.masks.dtype == np.bool_
        assert scene.masks.sum(axis=0).max() <= 1
        assert len(scene.instructions) == 8 and 1 <= len(scene.objects) <= 6
        for item, mask in zip(scene.objects, scene.masks, strict=True):
            assert ITEMS[item.item_index].name == item.item and item.item_index < N_TRAIN_ITEMS
            if item.usable:
                rows, columns = np.nonzero(mask)
                assert mask.sum() >= 14
                assert abs(rows.mean() / 192 - item.center[0]) < item.size
                assert abs(columns.mean() / 192 - item.center[1]) < item.size
                assert max(np.ptp(rows), np.ptp(columns)) / 192 <= 1.45 * item.size + 0.02


def test_a_drawn_object_changes_the_pixels_of_its_mask_only_near_it():
    options = SceneOptions(objects=(2, 2), n_instructions=1)
    scene = generate_scene(3, options)
    away = ~scene.masks.any(axis=0)
    inside = scene.image[scene.masks[0]].astype(float).mean(axis=0)
    assert np.abs(inside - scene.image[away].astype(float).mean(axis=0)).max() > 5


def test_targets_are_usable_and_the_answer_is_the_union(scenes: list[Scene]):
    for scene in scenes:
        for one in scene.instructions:
            assert one.targets and all(scene.objects[k].usable for k in one.targets)
            assert np.array_equal(scene.target(one), scene.masks[list(one.targets)].any(axis=0))
            assert one.task == ("reasoning" if one.kind == "affordance" else "referring")


def test_all_kinds_are_asked(scenes: list[Scene]):
    assert {one.kind for scene in scenes for one in scene.instructions} == set(KINDS)


def test_names_colours_and_numbers_are_true(scenes: list[Scene]):
    checked = 0
    for scene in scenes:
        names = [item.item for item in scene.objects]
        for one in scene.instructions:
            meant = {scene.objects[k].item for k in one.targets}
            if one.kind == "noun":
                assert len(one.targets) == 1 and names.count(next(iter(meant))) == 1
                assert next(iter(meant)) in one.text
            elif one.kind == "all":
                assert len(meant) == 1 and len(one.targets) == names.count(next(iter(meant))) >= 2
                assert ("both" not in one.text and "the two" not in one.text) or len(one.targets) == 2
                assert ("the three" not in one.text) or len(one.targets) == 3
            elif one.kind == "color":
                tint = next(scene.objects[k].tint for k in one.targets)
                same = {k for k, item in enumerate(scene.objects) if item.item in meant and item.tint == tint}
                assert tint is not None and tint in one.text.split() and same == set(one.targets)
            checked += one.kind in ("noun", "all", "color")
    assert checked > 60


def heads(scene: Scene, name: str) -> list[int]:
    """The objects that a name, a category or "object" stands for; empty if the scene makes it unclear."""
    shown = {item.item_index for item in scene.objects}
    if name == "object":
        return list(range(len(scene.objects)))
    for entry in CATEGORIES:
        if entry.name == name:
            assert not unclear(name) & shown
            return [k for k, item in enumerate(scene.objects) if item.item_index in members(name)]
    return [k for k, item in enumerate(scene.objects) if item.item == name]


def test_sizes_and_places_are_true(scenes: list[Scene]):
    ends = {"leftmost": (1, min), "rightmost": (1, max), "topmost": (0, min), "bottommost": (0, max)}
    checked = 0
    for scene in scenes:
        for one in scene.instructions:
            if one.kind == "attribute":
                ((key, fields),) = parsed(one.text, ("largest", "smallest"))
                pick = max if key == "largest" else min
                wanted = pick(heads(scene, fields["n"]), key=lambda k, s=scene: s.objects[k].size)
            elif one.kind == "position":
                ((key, fields),) = parsed(one.text, tuple(ends))
                axis, pick = ends[key]
                wanted = pick(heads(scene, fields["n"]), key=lambda k, s=scene, a=axis: s.objects[k].center[a])
            elif one.kind == "ordinal":
                ((_, fields),) = parsed(one.text, ("ordinal",))
                axis = 1 if fields["side"] in ("left", "right") else 0
                ordered = sorted(heads(scene, fields["n"]), key=lambda k, s=scene, a=axis: s.objects[k].center[a])
                ordered = ordered[::-1] if fields["side"] in ("right", "bottom") else ordered
                wanted = ordered[["first", "second", "third", "fourth"].index(fields["o"])]
            else:
                continue
            checked += 1
            assert one.targets == (wanted,), (one, scene.objects)
    assert checked > 60


def test_only_plain_differences_are_asked():
    def thing(item: int, center: tuple[float, float], size: float) -> SceneObject:
        return SceneObject(ITEMS[item].name, item, None, center, size)

    def asked(*objects: SceneObject) -> set[tuple[str, tuple[int, ...]]]:
        found = Referring(objects).expressions()
        return {(entry.key, entry.targets) for entry in found if entry.kind in ("attribute", "position")}

    far = asked(thing(0, (0.5, 0.2), 0.2), thing(0, (0.5, 0.8), 0.3))
    assert far == {("largest", (1,)), ("smallest", (0,)), ("leftmost", (0,)), ("rightmost", (1,))}
    assert asked(thing(0, (0.5, 0.47), 0.2), thing(0, (0.5, 0.53), 0.22)) == set()
    overlapping = asked(thing(0, (0.5, 0.40), 0.2), thing(0, (0.5, 0.52), 0.5))
    assert ("leftmost", (0,)) not in overlapping and ("rightmost", (1,)) in overlapping
    trumpet, ball = (next(k for k, item in enumerate(ITEMS) if item.name == name) for name in ("knife", "baseball"))
    assert filled_side(trumpet) < 0.75 * filled_side(ball)
    unclear = asked(thing(trumpet, (0.2, 0.2), 0.25), thing(ball, (0.8, 0.8), 0.2))
    assert not any(key in ("largest", "smallest") for key, _ in unclear)


def test_relations_are_true(scenes: list[Scene]):
    checked = 0
    for scene in scenes:
        for one in scene.instructions:
            if one.kind != "relation":
                continue
            ((key, fields),) = parsed(one.text, RELATIONS)
            group, (anchor,) = heads(scene, fields["n"]), heads(scene, fields["m"])
            y, x = scene.objects[anchor].center
            target = scene.objects[one.targets[0]]
            offset = {k: (scene.objects[k].center[0] - y, scene.objects[k].center[1] - x) for k in group}
            inside = {
                "left": lambda d: d[1] < 0, "right": lambda d: d[1] > 0, "above": lambda d: d[0] < 0,
                "below": lambda d: d[0] > 0,
            }  # fmt: skip
            if key in inside:
                assert [k for k in group if inside[key](offset[k])] == list(one.targets)
            else:
                pick = min if key == "closest" else max
                assert pick(group, key=lambda k, o=offset: np.hypot(*o[k])) == one.targets[0]
            assert not held_out_relation(target.item_index, key)
            checked += 1
    assert checked > 12


def test_categories_purposes_and_exceptions_are_true(scenes: list[Scene]):
    plurals = {entry.plural: entry.name for entry in CATEGORIES} | {"objects": "object"}
    names = {item.plural: item.name for item in ITEMS}
    checked = 0
    for scene in scenes:
        for one in scene.instructions:
            shown = {item.item_index for item in scene.objects}
            if one.kind == "category":
                _, fields = parsed(one.text, ("category", "category_one"))[0]
                name = fields.get("n") or plurals[fields["p"]]
                assert set(one.targets) == set(heads(scene, name))
            elif one.kind == "affordance":
                (number,) = [k for k, entry in enumerate(AFFORDANCES) if bare(one.text) in entry.phrases]
                inside, doubtful = affordance_sets(number)
                assert not doubtful & shown
                assert {k for k, item in enumerate(scene.objects) if item.item_index in inside} == set(one.targets)
            elif one.kind == "except":
                _, fields = parsed(one.text, ("except_one", "except_many"))[-1]
                name = fields.get("n") or plurals[fields["p"]]
                left_out = fields.get("m") or names[fields["q"]]
                left_out = names.get(left_out, left_out)
                rest = [k for k in heads(scene, name) if scene.objects[k].item != left_out]
                assert rest == list(one.targets) and len(rest) < len(heads(scene, name))
            checked += one.kind in ("category", "affordance", "except")
    assert checked > 80


def test_training_scenes_hold_nothing_that_is_held_out(scenes: list[Scene]):
    held_out = {entry.phrases[-1] for entry in AFFORDANCES}
    for scene in scenes:
        for one in scene.instructions:
            assert not one.text.startswith(HELD_OUT_PREFIXES)
            assert bare(one.text) not in held_out
            assert not parsed(one.text, TEMPLATES, part=1), one.text


def test_held_out_parts_are_used_when_asked():
    for seed in range(4):
        drawn = generate_scene(seed, SceneOptions(items="heldout"))
        for one in drawn.instructions:
            assert any(ITEMS[drawn.objects[k].item_index].held_out for k in one.targets)
        new = {item.name for item in ITEMS if item.new_name}
        assert not any(f" {name}" in f" {one.text}" for one in drawn.instructions for name in new)
        said = generate_scene(seed, SceneOptions(phrasings="heldout"))
        phrases = {entry.phrases[-1] for entry in AFFORDANCES}
        for one in said.instructions:
            assert bare(one.text) in phrases or parsed(one.text, TEMPLATES, part=1)
        placed = generate_scene(seed, SceneOptions(relations="heldout", layout="repeated", kinds=("relation",)))
        for one in placed.instructions:
            ((key, _),) = parsed(one.text, RELATIONS)
            assert held_out_relation(placed.objects[one.targets[0]].item_index, key)


def test_no_target_asks_for_what_is_not_there():
    for seed in range(8):
        scene = generate_scene(seed, SceneOptions(kinds=("no_target",)))
        names = {item.item for item in scene.objects}
        for one in scene.instructions:
            assert one.targets == () and not scene.target(one).any()
            if one.text.startswith("the only "):
                assert one.text.removeprefix("the only ") not in names


def test_layouts_and_sizes():
    school = generate_scene(1, SceneOptions(layout="school", objects=(6, 9), sizes=(0.14, 0.28)))
    names = [item.item for item in school.objects]
    assert max(names.count(name) for name in names) >= 4
    tiny = generate_scene(1, SceneOptions(objects=(4, 8), sizes=(0.08, 0.12), canvas=96))
    assert tiny.image.shape == (96, 96, 3) and all(item.size <= 0.1201 for item in tiny.objects)
    tinted = generate_scene(2, SceneOptions(layout="tinted", kinds=("color",)))
    assert sum(item.tint is not None for item in tinted.objects) >= 2


def test_sentences_use_only_the_vocabulary(scenes: list[Scene]):
    known = set(vocabulary())
    assert 700 <= len(known) <= 1000
    for scene in scenes:
        for one in scene.instructions:
            assert set(words(one.text)) <= known, one.text
            assert "{" not in one.text and "  " not in one.text and one.text == one.text.strip()
            assert not re.search(r"\ba [aeio]", one.text) and not re.search(r"\ban [^aeiouh]", one.text)


def test_instructions_of_tasks_teach_no_word_of_place_size_or_color(scenes: list[Scene]):
    beyond = set(words_beyond_tasks())
    assert beyond < set(vocabulary())
    # "at the top" alone has no word of its own: one wears a hat "on the top of the head".
    shared = [pattern("the {n} at the top")]
    seen = set()
    for one in (one for scene in scenes for one in scene.instructions):
        found = beyond & set(words(one.text))
        if one.kind in TASK_KINDS:
            assert not found, one.text
        elif not any(each.fullmatch(bare(one.text)) for each in shared):
            assert found, one.text
        seen.add(one.kind)
    assert seen == set(KINDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("nouns",)}, "unknown instruction kind 'nouns'; did you mean 'noun'"),
        ({"layout": "schol"}, "unknown layout 'schol'; did you mean 'school'"),
        ({"redundancy": "quick"}, "unknown redundancy 'quick'"),
        ({"items": "test"}, "unknown choice of items 'test'"),
        ({"canvas": 8}, "canvas is 8 pixels; expected 32 to 4096"),
        ({"objects": (5, 2)}, r"objects is \(5, 2\); expected 1 <= low"),
        ({"sizes": (0.0, 0.2)}, r"sizes is \(0.0, 0.2\)"),
        ({"n_instructions": 0}, "n_instructions 0"),
    ],
)
def test_options_that_make_no_scene_are_refused(options: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        replace(SceneOptions(), **options)


def test_bad_seeds_and_hopeless_options_are_refused():
    with pytest.raises(InputError, match="seed is -1; expected a number >= 0"):
        generate_scene(-1)
    with pytest.raises(InputError, match="no scene of kinds ordinal was found"):
        generate_scene(1, SceneOptions(objects=(1, 1), kinds=("ordinal",), canvas=32))
