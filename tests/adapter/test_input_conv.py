"""Other input channels: the tutorial's function bit for bit, and the invariant of every mode."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.adapter.input_conv import INPUT_MODES, map_input_conv
from medtransfer.errors import UsageError

SHAPES = [(5, 2, 3), (4, 3, 3, 3), (6, 2, 3, 5, 3), (1, 1, 1, 1, 1)]
CHANNELS = st.integers(1, 6)
MODES = st.sampled_from([mode for mode in INPUT_MODES if mode not in ("sum", "strict")])


def tutorials(channels: int, weight: Tensor) -> Tensor:
    """What cell 8 of the ptimz tutorial does, written anew: linear interpolation along the channels in float32."""
    flat = weight.float().flatten(2)
    places = [F.interpolate(flat[:, None, :, k], channels, mode="linear")[:, 0] for k in range(flat.shape[2])]
    return torch.stack(places, dim=2).reshape(weight.shape[0], channels, *weight.shape[2:]).to(weight.dtype)


def conv(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3](x, weight, groups=groups)


def image(channels: int, ndim: int) -> Tensor:
    return torch.randn(2, channels, *[6] * ndim, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(8, 2, 3, 3, 3), (8, 3, 7, 7, 7), (4, 1, 3, 3), (4, 4, 3, 5), (3, 5, 4)], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_interpolate_is_the_tutorials_function_bit_for_bit(channels, shape, dtype):
    weight = torch.randn(shape).to(dtype)
    adapted = mt.adapt_input_conv(channels, weight)
    assert adapted.dtype == dtype
    assert adapted.is_contiguous()
    assert torch.equal(adapted, tutorials(channels, weight))


TABLE = {
    (1, 4): [[1], [1], [1], [1]],
    (2, 4): [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]],
    (3, 2): [[0.75, 0.25, 0], [0, 0.25, 0.75]],
    (3, 1): [[0, 1, 0]],
    (4, 1): [[0, 0.5, 0.5, 0]],
}


@pytest.mark.parametrize("channels, rows", TABLE.items(), ids=str)
def test_interpolation_weights_are_those_of_the_formats_page(channels, rows):
    old, new = channels
    one_hot = torch.eye(old).reshape(old, old, 1)
    adapted = mt.adapt_input_conv(new, one_hot)[:, :, 0].T
    torch.testing.assert_close(adapted, torch.tensor(rows, dtype=torch.float32), rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(shape=st.sampled_from(SHAPES), channels=CHANNELS, mode=MODES)
def test_every_mode_gives_a_new_tensor_of_the_right_shape_and_leaves_the_weight_alone(shape, channels, mode):
    weight = torch.randn(shape)
    before = weight.clone()
    adapted = mt.adapt_input_conv(channels, weight, mode)
    assert adapted.shape == (shape[0], channels, *shape[2:])
    assert torch.equal(weight, before)
    adapted.add_(1)
    assert torch.equal(weight, before), "the result shares memory with the source"


@pytest.mark.parametrize("mode", INPUT_MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_every_mode_keeps_the_dtype(mode, dtype):
    weight = torch.randn(2, 1, 3, 3, 3).to(dtype)
    assert mt.adapt_input_conv(1 if mode in ("sum", "strict") else 3, weight, mode).dtype == dtype


@pytest.mark.parametrize("mode", [mode for mode in INPUT_MODES if mode not in ("sum", "mean")])
def test_the_same_number_of_channels_changes_nothing(mode):
    weight = torch.randn(3, 4, 3, 3, 3)
    adapted = mt.adapt_input_conv(4, weight, mode)
    assert torch.equal(adapted, weight)
    assert adapted.data_ptr() != weight.data_ptr()


@settings(max_examples=30, deadline=None)
@given(shape=st.sampled_from(SHAPES), times=st.integers(1, 4), mode=st.sampled_from(["repeat", "interpolate-rescaled"]))
def test_c28_rescaled_modes_keep_the_response_to_replicated_channels(shape, times, mode):
    weight, x = torch.randn(shape, dtype=torch.float64), image(shape[1], len(shape) - 2)
    if mode != "repeat":  # mixes neighbours, so that the channels must hold the same
        x = x[:, :1].expand_as(x)
    adapted = mt.adapt_input_conv(shape[1] * times, weight, mode)
    torch.testing.assert_close(conv(torch.cat([x] * times, dim=1), adapted), conv(x, weight), rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), times=st.integers(2, 4))
def test_c28_interpolation_scales_the_response_by_the_ratio_of_channels(shape, times):
    weight, x = torch.randn(shape, dtype=torch.float64), image(1, len(shape) - 2)
    adapted = mt.adapt_input_conv(shape[1] * times, weight)
    new, old = x.expand(-1, shape[1] * times, *x.shape[2:]), x.expand(-1, shape[1], *x.shape[2:])
    torch.testing.assert_close(conv(new, adapted), times * conv(old, weight), rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), extra=st.integers(0, 3))
def test_c28_zero_gives_the_sources_output_whatever_the_new_channels_hold(shape, extra):
    weight, x = torch.randn(shape, dtype=torch.float64), image(shape[1], len(shape) - 2)
    adapted = mt.adapt_input_conv(shape[1] + extra, weight, "zero")
    assert torch.equal(adapted[:, : shape[1]], weight)
    assert not adapted[:, shape[1] :].any()
    anything = torch.cat([x, 1e3 * image(extra, len(shape) - 2)], dim=1)
    torch.testing.assert_close(conv(anything, adapted), conv(x, weight), rtol=1e-12, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES))
def test_c28_sum_gives_one_channel_the_response_to_it_replicated(shape):
    weight, x = torch.randn(shape, dtype=torch.float64), image(1, len(shape) - 2)
    adapted = mt.adapt_input_conv(1, weight, "sum")
    replicated = x.expand(-1, shape[1], *x.shape[2:])
    torch.testing.assert_close(conv(x, adapted), conv(replicated, weight))


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), channels=CHANNELS)
def test_mean_gives_every_channel_the_mean_of_the_source(shape, channels):
    weight = torch.randn(shape)
    adapted = mt.adapt_input_conv(channels, weight, "mean")
    for j in range(channels):
        torch.testing.assert_close(adapted[:, j], sum(weight[:, i] for i in range(shape[1])) / shape[1])


def test_random_keeps_the_old_channels_and_draws_new_ones_of_the_same_spread():
    weight = 0.02 * torch.randn(64, 2, 3, 3, 3)
    adapted = mt.adapt_input_conv(6, weight, "random")
    assert torch.equal(adapted[:, :2], weight)
    assert adapted[:, 2:].std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(adapted, mt.adapt_input_conv(6, weight, "random"))


@pytest.mark.parametrize("mode", [mode for mode in INPUT_MODES if mode not in ("random", "strict")])
@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_grouped_and_transposed_convolutions_are_adapted_group_by_group(mode, groups, transposed):
    per_group, new = 2, 1 if mode == "sum" else 4
    full = torch.randn(groups, 3, per_group, 3, 3)  # group, out, in, k, k
    direct = [mt.adapt_input_conv(new, group, mode) for group in full]
    if transposed:
        weight = torch.cat([group.transpose(0, 1) for group in full])
        expected = torch.cat([group.transpose(0, 1) for group in direct])
    else:
        weight, expected = full.flatten(0, 1), torch.cat(direct)
    adapted = mt.adapt_input_conv(new * groups, weight, mode, groups=groups, transposed=transposed)
    torch.testing.assert_close(adapted, expected, rtol=0, atol=1e-6)
    assert adapted.is_contiguous()


def test_a_grouped_convolution_keeps_its_response_to_replicated_channels():
    weight, x = torch.randn(6, 2, 3, 3, dtype=torch.float64), image(6, 2)
    adapted = mt.adapt_input_conv(12, weight, "repeat", groups=3)
    pairs = x.unflatten(1, (3, 2))
    replicated = torch.cat([pairs, pairs], dim=2).flatten(1, 2)
    torch.testing.assert_close(conv(replicated, adapted, groups=3), conv(x, weight, groups=3))


# --- by name --------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(data=st.data(), shape=st.sampled_from(SHAPES))
def test_a_map_gives_the_sources_output_whatever_the_new_channels_hold(data, shape):
    """Each source channel is used once; new channels may stand anywhere."""
    names = [f"s{i}" for i in range(shape[1])]
    order = data.draw(st.permutations([*names, *[None] * data.draw(st.integers(0, 3))]))
    channels = {f"n{j}": old for j, old in enumerate(order)}
    weight, x = torch.randn(shape, dtype=torch.float64), image(shape[1], len(shape) - 2)
    adapted = map_input_conv(weight, channels, names)
    noise = 1e3 * image(len(order), len(shape) - 2)
    for j, old in enumerate(order):
        if old is not None:
            noise[:, j] = x[:, names.index(old)]
            assert torch.equal(adapted[:, j], weight[:, names.index(old)])
        else:
            assert not adapted[:, j].any()
    torch.testing.assert_close(conv(noise, adapted), conv(x, weight), rtol=1e-12, atol=1e-12)


def test_a_map_takes_indices_and_may_use_a_channel_twice():
    weight = torch.randn(2, 3, 3)
    adapted = map_input_conv(weight, {"a": 2, "b": 2, "c": None, "d": 0})
    assert torch.equal(adapted[:, [0, 1, 3]], weight[:, [2, 2, 0]])


@pytest.mark.parametrize("channels", [{"a": "flair"}, {"a": 3}, {"a": -1}], ids=str)
def test_a_map_to_a_channel_that_the_source_lacks_names_those_it_has(channels):
    with pytest.raises(UsageError, match=r"source channel .*; the source's channels are t1, t2, adc"):
        map_input_conv(torch.randn(2, 3, 3), channels, ["t1", "t2", "adc"])
    with pytest.raises(UsageError, match="the source has 3 channels, unnamed"):
        map_input_conv(torch.randn(2, 3, 3), channels)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_strict_refuses_another_number_of_channels():
    with pytest.raises(UsageError, match=r"'strict', but the source has 3 channels, the target 4"):
        mt.adapt_input_conv(4, torch.randn(2, 3, 3, 3), "strict")


def test_sum_gives_one_channel_only():
    with pytest.raises(UsageError, match=r"'sum' gives one channel, the target has 2. Use 'repeat'"):
        mt.adapt_input_conv(2, torch.randn(2, 3, 3, 3), "sum")


@pytest.mark.parametrize(
    "channels, weight, options, said",
    [
        (4, torch.ones(2, 3, 3), {"mode": "linear"}, "must be one of interpolate, .*, strict or a map, got 'linear'"),
        (0, torch.ones(2, 3, 3), {}, "positive multiple of the 1 groups, got 0"),
        (3, torch.ones(4, 3, 3), {"groups": 2}, "positive multiple of the 2 groups, got 3"),
        (3, torch.ones(4, 3), {}, r"at least 3 dimensions, got shape \(4, 3\)"),
    ],
    ids=["mode", "none", "groups", "matrix"],
)
def test_arguments_that_cannot_be_used_are_named(channels, weight, options, said):
    with pytest.raises(UsageError, match=said):
        mt.adapt_input_conv(channels, weight, **options)
