"""One layer as several and several as one: by hand-computed numbers, by bits, and part by part in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.adapter.head_parts import merge_heads, split_head
from medtransfer.errors import UsageError
from tests.adapter.head_layers import conv_of, integers, same_layer, whole_numbers

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DIMENSIONS = [1, 2, 3]


def joined(heads: nn.ModuleDict, x: Tensor, anchors: int = 1) -> Tensor:
    """Outputs of all parts as the whole layer gives them: anchor after anchor."""
    parts = [head(x).unflatten(1, (anchors, -1)) for head in heads.values()]
    return torch.cat(parts, dim=2).flatten(1, 2)


class TestParts:
    def test_hand_computed_with_anchors(self):
        layer = nn.Linear(1, 6, bias=False)
        layer.weight.data = torch.tensor([[10.0], [11.0], [12.0], [20.0], [21.0], [22.0]])
        heads = split_head(layer, {"objectness": 1, "box": 2}, anchors=2)
        assert heads["objectness"].weight.flatten().tolist() == [10, 20]
        assert heads["box"].weight.flatten().tolist() == [11, 12, 21, 22]
        heads = split_head(layer, {"objectness": 2, "box": 4})
        assert heads["objectness"].weight.flatten().tolist() == [10, 11]
        assert heads["box"].weight.flatten().tolist() == [12, 20, 21, 22]

    def test_detection_layer_of_seeds_000(self):
        x, last_layer = torch.rand(16, 32, 7, 7), nn.Conv2d(32, 105, 3, padding=1)
        heads = split_head(last_layer, {"objectness": 1, "box": 4, "classes": 100})
        outputs = {name: head(x) for name, head in heads.items()}
        assert {name: tuple(y.shape) for name, y in outputs.items()} == {
            "objectness": (16, 1, 7, 7),
            "box": (16, 4, 7, 7),
            "classes": (16, 100, 7, 7),
        }
        torch.testing.assert_close(torch.cat(list(outputs.values()), dim=1), last_layer(x), rtol=1e-6, atol=1e-6)
        assert torch.equal(heads["box"].weight, last_layer.weight[1:5])
        assert torch.equal(heads["classes"].bias, last_layer.bias[5:])
        # sums of whole numbers are exact in any order, so here outputs are equal by bits on any machine
        x, heads = whole_numbers(16, 32, 7, 7), split_head(integers(last_layer), {"a": 1, "b": 4, "c": 100})
        assert torch.equal(joined(heads, x), last_layer(x))

    @pytest.mark.parametrize("anchors", [1, 3])
    @pytest.mark.parametrize("ndim", [0, *DIMENSIONS])
    def test_outputs_are_the_whole_layers_by_bits(self, ndim, anchors):
        rows = anchors * 7
        layer = nn.Linear(8, rows) if ndim == 0 else conv_of(ndim, 8, rows, 3, padding=1, stride=2)
        x = whole_numbers(2, 8, *(5, 6, 7)[:ndim])
        heads = split_head(integers(layer), {"objectness": 1, "box": 4, "classes": 2}, anchors)
        assert torch.equal(joined(heads, x, anchors), layer(x))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("anchors", [1, 2, 5])
    @pytest.mark.parametrize("ndim", [0, *DIMENSIONS])
    def test_merged_parts_are_the_layer_by_bits(self, ndim, anchors, dtype):
        layer = (
            nn.Linear(8, anchors * 7, dtype=dtype)
            if ndim == 0
            else conv_of(ndim, 8, anchors * 7, 3, padding=1, padding_mode="circular", dilation=2, dtype=dtype)
        )
        heads = split_head(layer, {"a": 4, "b": 1, "c": 2}, anchors)
        assert all(head.weight.dtype == dtype for head in heads.values())
        assert same_layer(merge_heads(heads, anchors), layer)
        assert same_layer(merge_heads(dict(heads), anchors), layer)

    @pytest.mark.parametrize(
        ("groups", "sizes", "anchors"),
        [
            (2, {"a": 6, "b": 6}, 1),
            (4, {"a": 3, "b": 6, "c": 3}, 1),
            (4, {"a": 1, "b": 2, "c": 9}, 1),
            (4, {"a": 1, "b": 2}, 4),
            (2, {"a": 1, "b": 2}, 4),
            (12, {"a": 1, "b": 11}, 1),
        ],
    )
    @pytest.mark.parametrize("ndim", DIMENSIONS)
    def test_groups(self, ndim, groups, sizes, anchors):
        layer = integers(conv_of(ndim, 24, 12, 3, groups=groups))
        x = whole_numbers(2, 24, *(5, 6, 7)[:ndim])
        heads = split_head(layer, sizes, anchors)
        assert torch.equal(joined(heads, x, anchors), layer(x))
        assert same_layer(merge_heads(heads, anchors), layer)

    @pytest.mark.parametrize(
        ("groups", "sizes", "anchors"), [(2, {"a": 4, "b": 8}, 1), (4, {"a": 1, "b": 11}, 1), (4, {"a": 2, "b": 4}, 2)]
    )
    def test_cuts_through_groups_are_refused(self, groups, sizes, anchors):
        with pytest.raises(UsageError, match=rf"cuts through the {groups} groups of {12 // groups} rows"):
            split_head(nn.Conv3d(24, 12, 1, groups=groups), sizes, anchors)

    def test_a_part_of_groups_that_are_no_neighbours_is_refused(self):
        with pytest.raises(UsageError, match="cuts through the 4 groups of 2 rows"):
            split_head(nn.Conv3d(8, 8, 1, groups=4), {"a": 2, "b": 2}, anchors=2)

    @pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv3d(4, 3, 1)])
    def test_a_merged_layer_trains_if_a_part_does(self, layer):
        heads = split_head(layer, {"a": 1, "b": 2})
        heads["a"].requires_grad_(False)
        assert all(parameter.requires_grad for parameter in merge_heads(heads).parameters())
        heads["b"].requires_grad_(False)
        assert not any(parameter.requires_grad for parameter in merge_heads(heads).parameters())

    def test_one_part_trains_alone(self):
        layer = nn.Conv3d(8, 7, 3, padding=1)
        before, x = copy.deepcopy(layer.state_dict()), torch.rand(1, 8, 4, 4, 4)
        heads = split_head(layer, {"objectness": 1, "box": 4, "classes": 2})
        heads.requires_grad_(False)
        heads["box"].requires_grad_(True)
        optimizer = torch.optim.SGD([p for p in heads.parameters() if p.requires_grad], lr=0.1)
        joined(heads, x).square().sum().backward()
        assert [name for name, p in heads.named_parameters() if p.grad is not None] == ["box.weight", "box.bias"]
        optimizer.step()
        after = merge_heads(heads)
        changed = (after.weight != before["weight"]).flatten(1).any(1)
        assert changed.tolist() == [False, True, True, True, True, False, False]
        assert torch.equal(layer.weight, before["weight"])

    def test_settings_modes_and_subclasses_carry_over(self):
        class Scaled(nn.Conv3d):
            def forward(self, x: Tensor) -> Tensor:
                return 2 * super().forward(x)

        layer = integers(Scaled(4, 6, 3, stride=2, padding=1, bias=False)).eval()
        layer.weight.requires_grad = False
        heads, x = split_head(layer, {"a": 2, "b": 4}), whole_numbers(1, 4, 5, 5, 5)
        assert torch.equal(joined(heads, x), layer(x))
        part = heads["b"]
        assert (type(part), part.stride, part.bias, part.training) == (Scaled, (2, 2, 2), None, False)
        assert not part.weight.requires_grad
        assert part.out_channels == 4

    def test_state_dict_has_the_names_of_the_parts(self):
        heads = split_head(nn.Linear(4, 3), {"objectness": 1, "classes": 2})
        assert list(heads.state_dict()) == ["objectness.weight", "objectness.bias", "classes.weight", "classes.bias"]

    def test_a_segmenters_own_head(self):
        layer = mt.create_model("resunet10", num_classes=5, base_channels=4, stem_channels=4).final_layer[1]
        assert same_layer(merge_heads(split_head(layer, {"background": 1, "organs": 4})), layer)

    @pytest.mark.parametrize(
        ("layer", "sizes", "anchors", "said"),
        [
            (
                nn.Linear(4, 6),
                {"a": 1, "b": 4},
                1,
                r"as many rows as the layer's 6, each at least one; got 5 \(a 1, b 4",
            ),
            (nn.Linear(4, 6), {"a": 0, "b": 6}, 1, "each at least one"),
            (nn.Linear(4, 6), {}, 1, "got 0"),
            (nn.Linear(4, 6), {"a": 1, "b": 5}, 2, "2 anchors x as many rows as the layer's 6"),
            (nn.Linear(4, 6), {"a": 1, "b": 5}, 0, "as many rows"),
            (nn.Linear(4, 6), {"a.b": 1, "b": 5}, 1, "cannot be 'a.b'"),
            (nn.Linear(4, 6), {"": 1, "b": 5}, 1, "cannot be ''"),
            (nn.Linear(4, 6), {"keys": 1, "b": 5}, 1, "cannot be 'keys'"),
            (nn.ConvTranspose3d(4, 6, 1), {"a": 6}, 1, "got ConvTranspose3d"),
            (nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), {"a": 6}, 1, "computed from other tensors"),
        ],
    )
    def test_what_cannot_be_split_is_refused(self, layer, sizes, anchors, said):
        with pytest.raises(UsageError, match=said):
            split_head(layer, sizes, anchors)

    @pytest.mark.parametrize(
        ("heads", "anchors", "said"),
        [
            ({}, 1, "at least one layer, got none"),
            ({"a": nn.Conv3d(4, 2, 1), "b": nn.Linear(4, 2)}, 1, "type is Conv3d in 'a' and Linear in 'b'"),
            ({"a": nn.Linear(4, 2), "b": nn.Linear(5, 2)}, 1, r"one row is \[4\] in 'a' and \[5\] in 'b'"),
            ({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2, bias=False)}, 1, "a bias is True in 'a' and False in 'b'"),
            ({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2).double()}, 1, "dtype is torch.float32 in 'a' and"),
            ({"a": nn.Conv1d(4, 2, 1), "b": nn.Conv1d(4, 2, 1, stride=2)}, 1, "stride"),
            ({"a": nn.Linear(4, 2), "b": nn.Linear(4, 3)}, 2, "multiple of the 2 anchors, got 3"),
            ({"a": nn.ReLU()}, 1, "part 'a' must be an nn.Linear, Conv1d, Conv2d or Conv3d, got ReLU"),
            ({"a": nn.Conv1d(4, 2, 1, groups=2), "b": nn.Conv1d(4, 2, 1, groups=2)}, 1, r"groups \[0, 1, 0, 1\]"),
        ],
    )
    def test_what_is_not_one_layer_is_not_merged(self, heads, anchors, said):
        with pytest.raises(UsageError, match=said):
            merge_heads(heads, anchors)

    def test_parts_of_a_grouped_layer_in_another_order_are_refused(self):
        heads = split_head(nn.Conv3d(8, 4, 1, groups=4), {"a": 1, "b": 1, "c": 2})
        with pytest.raises(UsageError, match=r"read the groups \[1, 0, 2, 3\]"):
            merge_heads({name: heads[name] for name in "bac"})
        with pytest.raises(UsageError, match=r"follow its 2 groups, these read the groups \[1\]"):
            merge_heads({"b": heads["b"]})
