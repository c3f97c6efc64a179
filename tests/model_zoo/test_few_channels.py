"""Convolutions with taps as channels: results and gradients are those of torch's."""

import pytest
import torch

from medtransfer.model_zoo.few_channels import unfolded_convolution

# channels, kernel, stride, padding, size
SETTINGS = {
    "the stem of a ResNet": (1, (7, 7, 7), (2, 2, 2), (3, 3, 3), (12, 14, 16)),
    "odd sizes": (1, (7, 7, 7), (2, 2, 2), (3, 3, 3), (11, 9, 13)),
    "four channels": (4, (7, 7, 7), (2, 2, 2), (3, 3, 3), (9, 8, 10)),
    "no stride": (2, (3, 3, 3), (1, 1, 1), (1, 1, 1), (6, 7, 8)),
    "a stride of the last axis alone": (3, (5, 5, 5), (1, 1, 2), (2, 2, 2), (6, 6, 9)),
    "a stride of the others": (1, (5, 5, 5), (2, 2, 1), (2, 2, 2), (7, 6, 9)),
    "anisotropic": (2, (1, 3, 7), (1, 2, 2), (0, 1, 3), (5, 8, 11)),
    "flat along the last axis": (2, (3, 3, 1), (1, 1, 1), (1, 1, 0), (5, 5, 4)),
    "an even kernel": (1, (2, 2, 2), (2, 2, 2), (0, 0, 0), (6, 6, 7)),
    "no padding": (1, (3, 3, 3), (2, 2, 2), (0, 0, 0), (7, 8, 9)),
    "an axis shorter than the kernel": (1, (7, 7, 7), (2, 2, 2), (3, 3, 3), (8, 8, 3)),
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["contiguous", "last"])
def test_results_and_gradients_equal_those_of_torch(setting, layout) -> None:
    channels, kernel, stride, padding, size = setting
    torch.manual_seed(0)
    given = [torch.randn(2, channels, *size), torch.randn(3, channels, *kernel), torch.randn(3)]
    expected, found = [], []
    for function, values in ((torch.conv3d, expected), (unfolded_convolution, found)):
        inputs = [tensor.double().requires_grad_() for tensor in given]
        result = function(inputs[0].contiguous(memory_format=layout), *inputs[1:], stride, padding)
        result.square().sum().backward()
        values += [result, *(tensor.grad for tensor in inputs)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-10)


def test_without_a_bias() -> None:
    x, weight = torch.randn(1, 1, 6, 6, 6).double(), torch.randn(2, 1, 3, 3, 3).double()
    found = unfolded_convolution(x, weight, None, (2, 2, 2), (1, 1, 1))
    torch.testing.assert_close(found, torch.conv3d(x, weight, None, 2, 1))
