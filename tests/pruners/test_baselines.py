import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens
from leanseg.metrics.coverage import coverage
from leanseg.pruners import Identity, Random, Uniform
from leanseg.pruners.uniform import lattice


def picture(grid, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, 4, generator=generator), grid=grid)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_the_lattice_has_any_count_of_distinct_tokens_in_order(height, width, data):
    k = data.draw(st.integers(1, height * width))
    indices = lattice(Grid(height, width), k)
    assert len(indices) == k and indices == sorted(set(indices))
    assert indices[0] >= 0 and indices[-1] < height * width


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.data())
def test_the_lattice_of_a_clip_is_spread_over_its_frames(height, width, frames, data):
    grid = Grid(height, width, frames=frames)
    k = data.draw(st.integers(1, grid.n_tokens))
    indices = lattice(grid, k)
    assert len(indices) == k and indices == sorted(set(indices)) and indices[-1] < grid.n_tokens
    held = [sum(index // (height * width) == frame for index in indices) for frame in range(frames)]
    assert max(held) - min(held) <= 1
    for frame, count in enumerate(held):
        own = [index - frame * height * width for index in indices if index // (height * width) == frame]
        assert own == (lattice(Grid(height, width), count) if count else [])


@pytest.mark.parametrize("k", [36, 73, 146])
def test_the_lattice_leaves_no_hole(k):
    grid = Grid(27, 27)
    tokens = picture(grid)
    spread = coverage(tokens, Uniform(keep_ratio=k / 729)(tokens)).spatial_max
    scattered = coverage(tokens, Random(keep_ratio=k / 729)(tokens)).spatial_max
    # A square lattice of k cells cannot do better than half a cell's diagonal.
    assert float(spread) < 1.5 * 0.5 * 2**0.5 / k**0.5
    assert float(spread) < float(scattered)


def test_uniform_is_blind_and_random_is_not():
    tokens = picture(Grid(6, 6), batch=2)
    uniform, random = Uniform(keep_ratio=0.25)(tokens), Random(keep_ratio=0.25)(tokens)
    assert torch.equal(uniform.indices[0], uniform.indices[1])
    assert not torch.equal(random.indices[0], random.indices[1])


def test_random_depends_on_seed_and_content_only():
    tokens = picture(Grid(6, 6))
    first = Random(keep_ratio=0.25)(tokens)
    torch.manual_seed(123)
    assert Random(keep_ratio=0.25)(tokens).equals(first)
    assert not Random(keep_ratio=0.25, seed=1)(tokens).equals(first)
    signed = VisualTokens(features=torch.where(tokens.features > 0, tokens.features, 0.0), grid=tokens.grid)
    negated = VisualTokens(features=torch.where(tokens.features > 0, tokens.features, -0.0), grid=tokens.grid)
    assert Random(keep_ratio=0.25)(signed).equals(Random(keep_ratio=0.25)(negated))


def test_random_keeps_every_token_equally_often():
    tokens = picture(Grid(4, 5), batch=400, seed=2)
    kept = Random(keep_ratio=0.25)(tokens).mask().double().mean(0)
    assert float((kept - 0.25).abs().max()) < 0.1


def test_identity_ignores_the_ratio():
    tokens = picture(Grid(3, 3), batch=2)
    for made in (Identity(), Identity(keep_ratio=0.1)):
        assert made(tokens).indices.tolist() == [list(range(9))] * 2
        assert torch.equal(made(tokens).apply(tokens.features), tokens.features)
    assert Identity().select(tokens, 9).k == 9
