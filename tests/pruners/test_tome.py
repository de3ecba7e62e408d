import pytest
import torch

from leanseg.core import Grid, VisualTokens
from leanseg.errors import SpecError, TokensError
from leanseg.pruners import ToMe
from leanseg.testing import check_pruner, sample_tokens


def test_features_as_the_metric_obey_the_laws_and_need_no_cue():
    check_pruner(lambda keep_ratio: ToMe(keep_ratio=keep_ratio, metric="features"), grids=[Grid(1, 5), Grid(7, 3)])
    bare = VisualTokens(features=sample_tokens(Grid(4, 4)).features, grid=Grid(4, 4))
    assert ToMe(keep_ratio=0.25, metric="features")(bare).k == 4
    assert ToMe(keep_ratio=0.25, metric="features").cues == () and ToMe.cues == ("keys",)
    with pytest.raises(TokensError, match=r"tome\(keep_ratio=0\.25\) needs keys, and the tokens carry no cue"):
        ToMe(keep_ratio=0.25)(bare)


def test_an_unknown_metric_is_refused():
    with pytest.raises(SpecError, match="unknown metric 'key'; did you mean 'keys'"):
        ToMe(keep_ratio=0.5, metric="key")


@pytest.mark.parametrize("keep_ratio", [0.05, 0.2, 0.5, 0.9])
def test_nothing_is_lost(keep_ratio):
    tokens = sample_tokens(Grid(9, 9), batch=2)
    selection = ToMe(keep_ratio=keep_ratio)(tokens)
    assert selection.sizes.sum(1).tolist() == [81.0, 81.0] and int(selection.owner.min()) == 0
    mean = (selection.features * selection.sizes[..., None]).sum(1) / 81
    torch.testing.assert_close(mean, tokens.features.mean(1))
    torch.testing.assert_close(selection.features, selection.pool(tokens.features))


def test_keys_decide_what_merges_and_features_follow():
    keys = torch.eye(4)[[0, 1, 2, 1, 3, 3]][None]
    features = torch.arange(6.0).reshape(1, 6, 1)
    selection = ToMe(keep_ratio=0.8)(VisualTokens(features=features, grid=Grid(2, 3), keys=keys))
    assert selection.indices.tolist() == [[0, 1, 2, 3, 5]]
    assert selection.owner.tolist() == [[0, 1, 2, 3, 4, 4]]
    assert selection.features.flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.5]
