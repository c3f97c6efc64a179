"""Heads for other classes: kept rows by bits, new ones by the stated rule, in every kind of head."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.adapter.class_map import class_rows, remap_classes, remap_rows
from medtransfer.errors import UsageError

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ORGANS = ["background", "liver", "spleen", "kidney"]


class TestClassRows:
    @pytest.mark.parametrize(
        ("class_map", "new_names", "rows"),
        [
            ({0: 0, 1: 3, 2: None}, None, [0, 3, None]),
            ({2: None, 0: 0, 1: 3}, None, [0, 3, None]),
            ({0: 2, 1: 2}, None, [2, 2]),
            ({0: None}, None, [None]),
            ({0: "background", 1: "kidney", 2: None}, None, [0, 3, None]),
            ({"background": "background", "cyst": None, "spleen": 2}, None, [0, None, 2]),
            ({"spleen": 2, "background": 0, "cyst": None}, ["background", "cyst", "spleen"], [0, None, 2]),
            ({0: 0, 1: "spleen"}, ["background", "spleen"], [0, 2]),
        ],
    )
    def test_new_classes_in_order(self, class_map, new_names, rows):
        assert class_rows(class_map, 4, ORGANS, new_names) == rows

    def test_a_class_named_by_a_number_is_found_by_its_name(self):
        assert class_rows({"a": "1", "b": 1}, 3, ["1", "2", "3"]) == [0, 1]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (({0: 0, 1: 4}, 4), "old class 4; old classes are 0 to 3, without names. None starts a class anew"),
            (({0: -1}, 4), "old class -1"),
            (({0: True}, 4), "old class True"),
            (({0: 1.0}, 4), "old class 1.0"),
            (({0: "liver"}, 4), "old class 'liver'; old classes are 0 to 3, without names"),
            (({0: "heart"}, 4, ORGANS), "old class 'heart'; old classes are background, liver, spleen, kidney"),
            (({0: 0, 2: 1}, 4), "0 to 1 without gaps, got 0, 2"),
            (({1: 0, 2: 1}, 4), "0 to 1 without gaps, got 1, 2"),
            (({-1: 0, 0: 1}, 4), "without gaps"),
            (({0: 0, "cyst": 1}, 4), "0 to 1 without gaps, got 0, cyst"),
            (({}, 4, None, ["a"]), "must be a, got none"),
            (({"cyst": 0}, 4, None, ["cyst", "organ"]), "must be cyst, organ, got cyst"),
            (({"cyst": 0, "organ": 0, "cist": 0}, 4, None, ["cyst", "organ"]), "must be cyst, organ, got cyst, organ"),
            (({0: 0}, 4, None, ["cyst", "organ"]), r"a row for each of 2 new classes \(cyst, organ\), got 1"),
            (({0: 0}, 3, ORGANS), "4 names of old classes were given, the head has 3"),
        ],
    )
    def test_classes_that_do_not_exist_and_gaps_are_refused(self, arguments, said):
        with pytest.raises(UsageError, match=said.replace(".", r"\.")):
            class_rows(*arguments)


class TestRows:
    def test_hand_computed(self):
        weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]])
        assert remap_rows(weight, [2, None, 0]).tolist() == [[8, 0], [4, 2], [1, 2]]
        bias = torch.tensor([math.log(1.0), math.log(3.0), math.log(8.0)])
        new = remap_rows(bias, [2, None, 0])
        # kept are 8 and 1: a prior of 1/3 among three is the mean of what the two others have
        torch.testing.assert_close(new.exp(), torch.tensor([8.0, 4.5, 1.0]))
        assert (new[0], new[2]) == (bias[2], bias[0])

    def test_hand_computed_with_anchors(self):
        weight = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
        assert remap_rows(weight, [None, 1], anchors=2).flatten().tolist() == [2, 3, 15, 20]
        bias = torch.tensor([0.5, 0.25, -1.0, -2.0])
        # one class is kept: a new one of equal prior has its bias
        assert remap_rows(bias, [None, 1], anchors=2).tolist() == pytest.approx([0.25, 0.25, -2, -2])

    @pytest.mark.parametrize("prior", [None, 0.05, 0.3])
    def test_softmax_of_the_biases_is_the_prior_and_the_old_proportions(self, prior):
        bias = torch.randn(6, dtype=torch.float64) * 3
        rows = [0, None, 4, None, 4]
        new = remap_rows(bias, rows, prior=prior).softmax(0)
        expected = 1 / 5 if prior is None else prior
        assert new[[1, 3]].tolist() == pytest.approx([expected, expected])
        kept = bias[[0, 4, 4]].softmax(0) * (1 - 2 * expected)
        torch.testing.assert_close(new[[0, 2, 4]], kept)

    def test_softmax_of_new_classes_alone_is_uniform(self):
        assert remap_rows(torch.randn(3), [None, None]).tolist() == pytest.approx([math.log(0.5)] * 2)

    @pytest.mark.parametrize(("prior", "bias"), [(None, -4.59511985), (0.5, 0.0), (0.9, 2.19722458)])
    def test_sigmoid_bias_is_the_log_odds(self, prior, bias):
        new = remap_rows(torch.tensor([7.0, 8.0]), [1, None, None], activation="sigmoid", prior=prior)
        assert new.tolist() == pytest.approx([8.0, bias, bias], abs=1e-6)

    def test_normal_rows_are_small_and_differ(self):
        torch.manual_seed(0)
        new = remap_rows(torch.ones(2, 4096), [0, None, None], new_rows="normal")[1:]
        assert new.std(dim=1).tolist() == pytest.approx([0.01, 0.01], rel=0.1)
        assert new.mean(dim=1).tolist() == pytest.approx([0, 0], abs=1e-3)
        assert not torch.equal(new[0], new[1])

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", [(12,), (12, 5), (12, 5, 3), (12, 5, 3, 1), (12, 5, 1, 2, 3)], ids=len)
    @pytest.mark.parametrize("anchors", [1, 3])
    @pytest.mark.parametrize("new_rows", ["mean", "normal"])
    def test_kept_rows_are_equal_by_bits(self, shape, dtype, anchors, new_rows):
        tensor = torch.randn(shape).to(dtype)
        before = tensor.clone()
        rows = [3, None, 0, 3]
        new = remap_rows(tensor, rows, anchors, new_rows)
        assert (new.shape, new.dtype) == ((anchors * 4, *shape[1:]), dtype)
        assert torch.isfinite(new).all()
        for anchor in range(anchors):
            old, now = tensor[anchor * 12 // anchors :], new[anchor * 4 :]
            assert all(torch.equal(now[i], old[row]) for i, row in enumerate(rows) if row is not None)
        assert torch.equal(tensor, before)
        nn.init.zeros_(new)
        assert torch.equal(tensor, before)

    def test_half_precision_is_rounded_once(self):
        torch.manual_seed(0)
        bias = torch.randn(50, 6).to(torch.bfloat16)
        exact = torch.logsumexp(bias.double(), dim=1) - math.log(6)
        found = torch.stack([remap_rows(row, [*range(6), None])[-1] for row in bias])
        assert torch.equal(found, exact.to(torch.bfloat16))

    @pytest.mark.parametrize(
        ("arguments", "options", "said"),
        [
            (([0], 5), {}, "10 rows are not a multiple of"),
            (([0], 0), {}, "not a multiple of 0 anchors"),
            (([10],), {}, "old class 10"),
            (([],), {}, "at least one class, the class map is empty"),
            (([0],), {"new_rows": "zeros"}, "new_rows must be one of mean, normal, got 'zeros'"),
            (([0],), {"activation": "relu"}, "activation must be one of softmax, sigmoid"),
            (([0, None],), {"prior": 1.0}, "prior is the probability, more than 0 and less than 1"),
            (([0, None],), {"prior": 0.0}, "more than 0"),
            (([0, None, None],), {"prior": 0.5}, "of each of 2 new classes"),
            (([0, None],), {"prior": 2.0, "activation": "sigmoid"}, "less than 1"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, arguments, options, said):
        count = 11 if arguments[1:] == (5,) else 10
        with pytest.raises(UsageError, match=said.replace("10 rows", f"{count} rows")):
            remap_rows(torch.zeros(count), *arguments, **options)


class TestLayers:
    CLASS_MAP = {0: 0, 1: 3, 2: None}

    def heads(self) -> dict[str, nn.Module]:
        tiny = {"base_channels": 4, "stem_channels": 4, "num_classes": 4}
        segmenter = mt.create_model("resunet10", aux_train=True, **tiny)
        return {
            "classifier": mt.create_model("resnet10", **tiny).head_fc,
            "segmenter": segmenter.final_layer[1],
            "deep supervision": segmenter.aux_layers[0][1],
            "class volumes": mt.create_model("resnet10", head_type="fcn", **tiny).head_conv,
            "detector in 2-D": nn.Conv2d(8, 4, 3, padding=1),
        }

    @pytest.mark.parametrize(
        "kind", ["classifier", "segmenter", "deep supervision", "class volumes", "detector in 2-D"]
    )
    def test_every_kind_of_head(self, kind):
        old = self.heads()[kind]
        before = copy.deepcopy(old.state_dict())
        new = remap_classes(old, self.CLASS_MAP)
        assert type(new) is type(old)
        assert torch.equal(new.weight[[0, 1]], old.weight[[0, 3]])
        assert torch.equal(new.bias[[0, 1]], old.bias[[0, 3]])
        torch.testing.assert_close(new.weight[2], old.weight.mean(0))
        torch.testing.assert_close(new.bias[2], torch.logsumexp(old.bias[[0, 3]], 0) - math.log(2))
        x = torch.rand(2, old.weight.shape[1], *(5,) * (old.weight.ndim - 2))
        torch.testing.assert_close(new(x)[:, :2], old(x)[:, [0, 3]])
        nn.init.zeros_(new.weight)
        assert all(torch.equal(old.state_dict()[key], value) for key, value in before.items())

    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_detector_with_anchors(self, ndim):
        old = getattr(nn, f"Conv{ndim}d")(8, 3 * 4, 3, padding=1)
        new = remap_classes(old, self.CLASS_MAP, anchors=3, activation="sigmoid")
        x = torch.rand(2, 8, *(5,) * ndim)
        scores, were = new(x).unflatten(1, (3, 3)), old(x).unflatten(1, (3, 4))
        torch.testing.assert_close(scores[:, :, :2], were[:, :, [0, 3]])
        mean = were.mean(2) - old.bias.view(3, 4).mean(1).view(1, 3, *(1,) * ndim) + math.log(0.01 / 0.99)
        torch.testing.assert_close(scores[:, :, 2], mean)

    def test_groups_of_whole_anchors_stay_and_others_are_refused(self):
        old = nn.Conv3d(8, 8, 1, groups=2)
        new = remap_classes(old, self.CLASS_MAP, anchors=2)
        assert (new.groups, new.out_channels) == (2, 6)
        assert torch.equal(new.weight[3:5], old.weight[[4, 7]])
        with pytest.raises(UsageError, match="of 2 groups cannot change"):
            remap_classes(old, self.CLASS_MAP)

    def test_names_of_classes(self):
        old = nn.Conv3d(8, 4, 1)
        names = {"old_names": ORGANS, "new_names": ["background", "cyst", "kidney"]}
        by_name = remap_classes(old, {"kidney": "kidney", "background": "background", "cyst": None}, **names)
        by_number = remap_classes(old, {0: 0, 1: None, 2: 3})
        assert torch.equal(by_name.weight, by_number.weight)
        assert torch.equal(by_name.bias, by_number.bias)

    def test_the_identity_is_the_layer_by_bits(self):
        old = nn.Conv3d(8, 4, 1)
        new = remap_classes(old, {i: i for i in range(4)})
        assert torch.equal(new.weight, old.weight)
        assert torch.equal(new.bias, old.bias)

    @pytest.mark.parametrize("layer", [nn.Linear(8, 4, bias=False), nn.Conv3d(8, 4, 1, bias=False)])
    def test_no_bias_what_trains_and_sizes_carry_over(self, layer):
        layer.weight.requires_grad = False
        new = remap_classes(layer.eval(), self.CLASS_MAP)
        assert (new.bias, new.weight.requires_grad, new.training) == (None, False, False)
        assert (new.out_features if isinstance(new, nn.Linear) else new.out_channels) == 3

    @pytest.mark.parametrize(
        ("layer", "anchors", "said"),
        [
            (nn.ReLU(), 1, "got ReLU"),
            (nn.ConvTranspose3d(4, 4, 1), 1, "got ConvTranspose3d"),
            (nn.Linear(8, 4), 3, "4 rows are not a multiple of 3 anchors"),
            (nn.Linear(8, 4), 2, "old class 3; old classes are 0 to 1"),
            (nn.Linear(8, 3), 1, "old class 3; old classes are 0 to 2"),
        ],
    )
    def test_other_layers_and_classes_are_refused(self, layer, anchors, said):
        with pytest.raises(UsageError, match=said):
            remap_classes(layer, self.CLASS_MAP, anchors)
