"""Windows blend as MONAI's do, and a volume is run whole where that is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import nn

from medtransfer.errors import UsageError
from medtransfer.inference.engine import Engine
from medtransfer.inference.windows import (
    Plan,
    gaussian_weights,
    plan_whole,
    plan_windows,
    run_classifier,
    run_slabs,
)

CPU = torch.device("cpu")


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.integers(1, 14)] * 3),
    st.tuples(*[st.integers(4, 9)] * 3),
    st.sampled_from([0.0, 0.25, 0.5, 0.6]),
    st.integers(0, 2),
)
def test_windows_equal_monais_along_any_axis(shape: Any, window: Any, overlap: float, axis: int) -> None:
    torch.manual_seed(0)
    # a network whose answer depends on where in the window a voxel is
    network = nn.Conv3d(2, 3, 3, padding=1).eval()
    image = torch.randn(2, *shape)
    with torch.no_grad():
        expected = sliding_window_inference(image[None], window, 1, network, overlap, mode="gaussian")[0]
        slabs = list(run_slabs(network, image, plan_windows(shape, window, overlap), axis))
        got = torch.cat(slabs, dim=1).movedim(1, axis + 1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_far_weights_do_not_vanish() -> None:
    weights = gaussian_weights((32, 32, 32))
    assert weights.min() == pytest.approx(1e-3)
    assert weights.max() > 0.9


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(1, 70)] * 3), st.integers(1, 32))
def test_i24_a_whole_volume_is_padded_to_multiples_of_the_stride_and_cropped_back(shape: Any, stride: int) -> None:
    plan = plan_whole(shape, (stride,) * 3, None)
    for size, low in zip(plan.padded, shape, strict=True):
        assert size % stride == 0
        assert low <= size <= low + 2 * stride - 1
    assert max(plan.padded) >= 2 * stride
    image = torch.randn(1, *shape)
    assert torch.equal(next(run_slabs(lambda x: x, image, plan)), image)


def test_a_small_volume_is_padded_to_the_patch_of_training() -> None:
    assert plan_whole((10, 40, 70), (8, 8, 8), (32, 48, 64)).padded == (32, 48, 72)


@pytest.mark.parametrize("tile", [(0, 4, 4), (4, 4), (4, -1, 4), (4.5, 4, 4)])
def test_a09_a_window_that_cannot_be_is_refused(tile: Any) -> None:
    with pytest.raises(UsageError, match="one or three sizes in voxels"):
        plan_windows((5, 5, 5), tile)


@pytest.mark.parametrize("overlap", [1.0, -1.0, float("nan")])
def test_a09_an_overlap_that_cannot_be_states_its_range(overlap: float) -> None:
    with pytest.raises(UsageError, match="at least 0 and below 1"):
        plan_windows((5, 5, 5), (4, 4, 4), overlap)


def test_a_classifier_averages_over_windows() -> None:
    image = torch.arange(8.0).reshape(1, 8, 1, 1)
    logits = run_classifier(lambda x: x.mean((1, 2, 3, 4))[:, None], image, Plan((8, 1, 1), (4, 1, 1), 0.0))
    assert logits.tolist() == [3.5]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (nn.BatchNorm3d, False),
        (nn.InstanceNorm3d, True),
        (lambda width: nn.InstanceNorm3d(width, track_running_stats=True), False),
        (lambda width: nn.BatchNorm3d(width, track_running_stats=False), True),
        (lambda width: nn.GroupNorm(2, width), True),
        (lambda width: nn.Identity(), False),
    ],
)
def test_norms_that_look_at_the_input_are_known(networks: Any, norm: Any, expected: bool) -> None:
    network = networks["convolutions"](norm)
    engine = Engine(network, CPU)
    assert engine.sees_whole_input == expected
    # the claim itself: with other norms, a voxel's result does not depend on what lies far away
    image = torch.randn(1, 1, 12, 6, 6)
    image[:, :, 9:] *= 5
    same = torch.allclose(engine(image)[:, :, :4], engine(image[:, :, :7])[:, :, :4], atol=1e-5)
    assert same != expected


def test_the_estimate_grows_with_the_volume_and_holds_the_real_activations(networks: Any) -> None:
    engine = Engine(networks["convolutions"](nn.BatchNorm3d), CPU)
    small, large = engine.estimate_bytes((8, 8, 8), 2), engine.estimate_bytes((16, 16, 16), 2)
    assert large == 8 * small
    # conv and norm outputs of 6 channels are alive together, input and logits beside them
    assert large >= 4 * 16**3 * (1 + 6 + 6 + 2)
    assert large <= 4 * 16**3 * 60


def test_an_engine_is_a_snapshot(networks: Any) -> None:
    network = networks["convolutions"](nn.BatchNorm3d).train()
    engine = Engine(network, CPU)
    image = torch.randn(1, 1, 6, 6, 6)
    before = engine(image)
    nn.init.zeros_(network.body[0].weight)
    assert torch.equal(engine(image), before)
    assert network.training
