import pytest
import torch

from leanseg.core.attention import received_attention
from leanseg.errors import TokensError


def pair(batch=2, heads=4, kv_heads=4, n_queries=11, n_keys=13, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, n_queries, width, generator=generator)
    return q, torch.randn(batch, kv_heads, n_keys, width, generator=generator)


def whole_map(q, k, scale):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return (q.double() @ k.double().transpose(2, 3) * scale).softmax(-1)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_it_is_the_mean_of_the_whole_map(chunk, kv_heads):
    q, k = pair(kv_heads=kv_heads)
    expected = whole_map(q, k, 8**-0.5).mean(dim=(1, 2))
    torch.testing.assert_close(received_attention(q, k, chunk=chunk).double(), expected, atol=1e-6, rtol=0)
    doubled = whole_map(q, k, 0.7).mean(dim=(1, 2))
    torch.testing.assert_close(received_attention(q, k, scale=0.7).double(), doubled, atol=1e-6, rtol=0)


def test_it_can_be_restricted_to_some_queries_and_to_allowed_keys():
    q, k = pair()
    queries = torch.zeros(2, 11, dtype=torch.bool)
    queries[0, 3] = queries[1, 5] = queries[1, 7] = True
    full = whole_map(q, k, 8**-0.5).mean(dim=1)
    expected = torch.stack([full[0, 3], full[1, [5, 7]].mean(dim=0)])
    torch.testing.assert_close(received_attention(q, k, queries=queries).double(), expected, atol=1e-6, rtol=0)
    allowed = torch.ones(2, 13, dtype=torch.bool)
    allowed[:, :4] = False
    part = received_attention(q, k, allowed=allowed)
    assert part[:, :4].abs().max() == 0
    torch.testing.assert_close(part[:, 4:], received_attention(q, k[:, :, 4:]), atol=1e-6, rtol=0)


def test_each_row_sums_to_one_and_is_the_row_alone():
    q, k = pair(batch=3)
    together = received_attention(q, k, chunk=5)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(3))
    for row in range(3):
        alone = received_attention(q[row : row + 1], k[row : row + 1], chunk=5)
        assert torch.equal(alone[0], together[row])


def test_half_precision_is_computed_in_float32():
    q, k = pair()
    half = received_attention(q.bfloat16(), k.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, received_attention(q.bfloat16().float(), k.bfloat16().float()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk is 0; it must be a whole number of queries"),
        ({"queries": torch.zeros(2, 11, dtype=torch.bool)}, "queries is empty in some row"),
        ({"allowed": torch.zeros(2, 13, dtype=torch.bool)}, "allowed is empty in some row"),
    ],
)
def test_what_cannot_be_computed_is_refused(options, message):
    with pytest.raises(TokensError, match=message):
        received_attention(*pair(), **options)


def test_heads_that_cannot_be_shared_are_refused():
    q, k = pair(kv_heads=3)
    with pytest.raises(TokensError, match="4 query heads cannot share 3 key heads"):
        received_attention(q, k)
