"""Heads as convolutions and back: exact by hand-computed numbers, by bits and by algebra.

Where outputs are compared by bits, numbers are small integers: then every order of summation gives the same bits, on
any machine.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medtransfer.adapter.head_parts import merge_heads, split_head
from medtransfer.adapter.heads import conv_to_fc, convert_head, fc_to_conv, head_tensors
from medtransfer.errors import UsageError
from tests.adapter.head_layers import conv_of, integers, same_layer, whole_numbers

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DIMENSIONS = [1, 2, 3]


class TestFullyConnectedAsConvolution:
    def test_hand_computed(self):
        linear = nn.Linear(2, 2)
        linear.weight.data, linear.bias.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0])
        conv = fc_to_conv(linear, ndim=1)
        assert conv.weight.tolist() == [[[1.0], [2.0]], [[3.0], [4.0]]]
        # positions (1, 5) and (2, 6): 1*1 + 2*5 + 10, 1*2 + 2*6 + 10; 3*1 + 4*5 + 20, 3*2 + 4*6 + 20
        assert conv(torch.tensor([[[1.0, 2.0], [5.0, 6.0]]])).tolist() == [[[21.0, 24.0], [43.0, 50.0]]]

    @pytest.mark.parametrize("ndim", DIMENSIONS)
    def test_mean_of_the_class_volumes_is_the_score_of_the_mean(self, ndim):
        linear = nn.Linear(32, 7)
        x = torch.randn(3, 32, *(3, 4, 5)[:ndim])
        positions = tuple(range(2, 2 + ndim))
        scores = linear(x.mean(positions))
        torch.testing.assert_close(fc_to_conv(linear, ndim)(x).mean(positions), scores, rtol=1e-5, atol=1e-6)

    def test_vgg_head_of_seeds_002_becomes_a_1x1_convolution(self):
        fc_out = nn.Linear(512, 7)
        conv_out = fc_to_conv(fc_out, ndim=2)
        assert conv_out.weight.shape == (7, 512, 1, 1)
        assert torch.equal(conv_out.weight[:, :, 0, 0], fc_out.weight)
        maps = torch.rand(2, 512, 14, 14)
        at_one_place = fc_out(maps[:, :, 3, 5])
        torch.testing.assert_close(conv_out(maps)[:, :, 3, 5], at_one_place, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("ndim", "kernel"), [(2, 7), (3, 3), (3, (2, 3, 4)), (1, 5)])
    def test_a_layer_over_whole_maps_becomes_a_convolution_of_that_kernel(self, ndim, kernel):
        sizes = (kernel,) * ndim if isinstance(kernel, int) else kernel
        linear = integers(nn.Linear(4 * torch.Size(sizes).numel(), 6))
        conv = fc_to_conv(linear, ndim, kernel)
        maps = whole_numbers(2, 4, *sizes)
        assert torch.equal(conv(maps).flatten(1), linear(maps.flatten(1)))
        assert conv(torch.rand(1, 4, *(size + 2 for size in sizes))).shape[2:] == (3,) * ndim

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("ndim", DIMENSIONS)
    @pytest.mark.parametrize("kernel", [1, 2])
    def test_there_and_back_is_the_layer_by_bits(self, ndim, kernel, dtype):
        linear = nn.Linear(16, 3, dtype=dtype)
        assert same_layer(conv_to_fc(fc_to_conv(linear, ndim, kernel)), linear)
        conv = conv_of(ndim, 4, 3, kernel, dtype=dtype)
        assert same_layer(fc_to_conv(conv_to_fc(conv), ndim, kernel), conv)

    @pytest.mark.parametrize("bias", [True, False])
    def test_what_trains_the_mode_and_the_lack_of_a_bias_carry_over(self, bias):
        linear = nn.Linear(8, 2, bias=bias).eval()
        linear.weight.requires_grad = False
        conv = fc_to_conv(linear)
        assert (conv.weight.requires_grad, conv.training, conv.bias is None) == (False, False, not bias)
        assert not bias or conv.bias.requires_grad
        back = conv_to_fc(conv)
        assert (back.weight.requires_grad, back.training, back.bias is None) == (False, False, not bias)

    def test_tensors_are_its_own(self):
        linear = nn.Linear(8, 2)
        before = copy.deepcopy(linear.state_dict())
        for layer in (conv := fc_to_conv(linear), conv_to_fc(conv)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        assert all(torch.equal(linear.state_dict()[key], value) for key, value in before.items())

    def test_random_numbers_of_the_caller_are_left_alone(self):
        linear, state = nn.Linear(8, 2), torch.get_rng_state()
        conv_to_fc(fc_to_conv(linear))
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        ("refused", "said"),
        [
            (lambda: fc_to_conv(nn.Conv3d(4, 2, 1)), "needs an nn.Linear, got Conv3d"),
            (lambda: fc_to_conv(nn.Linear(4, 2), ndim=4), "ndim must be 1, 2 or 3, got 4"),
            (lambda: fc_to_conv(nn.Linear(10, 2), 2, 3), r"\[3, 3\] in 2-D does not divide the layer's 10 features"),
            (lambda: fc_to_conv(nn.Linear(10, 2), 3, (1, 1)), r"\[1, 1\] in 3-D"),
            (lambda: fc_to_conv(nn.Linear(10, 2), 2, 0), r"\[0, 0\]"),
            (lambda: conv_to_fc(nn.Linear(4, 2)), "needs an nn.Conv1d, Conv2d or Conv3d, got Linear"),
            (lambda: conv_to_fc(nn.ConvTranspose3d(4, 2, 1)), "got ConvTranspose3d"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 3, padding=1)), "without padding"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 3, padding="same")), "without padding"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 1, padding=1)), "without padding"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 1, groups=2)), "one group"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 1, stride=2)), "stride 1"),
            (lambda: conv_to_fc(nn.Conv2d(4, 2, 3, dilation=2)), "dilation"),
        ],
    )
    def test_layers_that_no_other_equals_are_refused(self, refused, said):
        with pytest.raises(UsageError, match=said):
            refused()

    def test_paddings_and_dilations_without_effect_are_accepted(self):
        for conv in (
            nn.Conv2d(4, 2, 1, padding="same"),
            nn.Conv2d(4, 2, 3, padding="valid"),
            nn.Conv2d(4, 2, 1, dilation=2),
        ):
            assert torch.equal(conv_to_fc(conv).weight, conv.weight.flatten(1))


class TestHeadTensors:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ((5, 8), (5, 8, 1, 1, 1)),
            ((5, 8), (5, 8, 1, 1)),
            ((5, 8, 1, 1, 1), (5, 8)),
            ((5, 8, 1, 1), (5, 8, 1, 1, 1)),
            ((5, 392), (5, 8, 7, 7)),
            ((5, 8, 2, 2, 2), (5, 64)),
            ((5,), (5,)),
            ((5, 8, 3, 3), (5, 8, 3, 3)),
        ],
    )
    def test_the_same_values_in_the_same_order(self, old, new):
        values = torch.arange(float(torch.Size(old).numel()))
        converted = convert_head(values.view(old), new)
        assert converted.shape == new
        assert torch.equal(converted.flatten(), values)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ((5, 8), (4, 8, 1, 1, 1)),
            ((5, 8), (5, 9, 1, 1, 1)),
            ((5, 8), (8, 5)),
            ((4, 8), (2, 16)),
            ((5,), (5, 1)),
            ((5, 1), (5,)),
            ((5, 8, 3, 3), (5, 8, 9, 1)),
            ((5, 8, 3, 3), (5, 8, 1, 3, 3)),
            ((5, 4, 2), (5, 8, 1)),
        ],
    )
    def test_nothing_where_one_is_not_the_other(self, old, new):
        assert convert_head(torch.zeros(old), new) is None

    def test_agrees_with_the_layers(self):
        linear = nn.Linear(8, 5)
        conv = fc_to_conv(linear)
        assert torch.equal(convert_head(linear.weight, conv.weight.shape), conv.weight)
        assert torch.equal(convert_head(conv.weight, linear.weight.shape), linear.weight)


def test_head_tensors_hold_no_graph():
    weight, bias = head_tensors(nn.Linear(4, 2, bias=False))
    assert (weight.requires_grad, bias) == (False, None)


@pytest.mark.parametrize("sizes", [[1, 5], None, {"a": "x"}, {"a": 1.5, "b": 4.5}])
def test_parts_that_are_no_dict_of_rows_are_refused(sizes):
    with pytest.raises(UsageError, match="the parts must be a dict of names and whole numbers of rows"):
        split_head(nn.Linear(8, 6), sizes)


def test_layers_that_are_no_dict_are_not_merged():
    with pytest.raises(UsageError, match="merge_heads needs a dict of names and layers, got list"):
        merge_heads([nn.Linear(8, 6)])
