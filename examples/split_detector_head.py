"""Fine-tune only a part of a detector's head: the one last layer becomes three, which give the same. Takes seconds.

python examples/split_detector_head.py
"""

from __future__ import annotations

import torch
from torch import nn

import medtransfer as mt

#: a box has six numbers in 3-D, where it has four in a photograph
SIZES = {"objectness": 1, "box": 6, "classes": 100}


def split_by_hand(x: torch.Tensor, last_layer: nn.Conv3d, y: torch.Tensor) -> None:
    """The steps one by one: three convolutions take the rows of the one."""
    weights, bias = last_layer.weight.detach(), last_layer.bias.detach()
    print("weights and bias of the last layer:", tuple(weights.shape), tuple(bias.shape))
    logit, box = nn.Conv3d(32, 1, 3, padding=1), nn.Conv3d(32, 6, 3, padding=1)
    classes = nn.Conv3d(32, 100, 3, padding=1)
    for part, rows in ((logit, slice(0, 1)), (box, slice(1, 7)), (classes, slice(7, None))):
        part.weight.data, part.bias.data = weights[rows], bias[rows]
    with torch.no_grad():
        outputs = [logit(x), box(x), classes(x)]
    print("their outputs:", [tuple(output.shape) for output in outputs])
    print("by hand, all values are equal:", bool((torch.cat(outputs, dim=1) == y).all()))


def train_one_part(x: torch.Tensor, parts: nn.ModuleDict, y: torch.Tensor) -> None:
    """A step of the optimiser that moves the classes and nothing else."""
    for name in ("objectness", "box"):
        parts[name].requires_grad_(False)
    trained = [name for name, parameter in parts.named_parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD([p for p in parts.parameters() if p.requires_grad], lr=0.1)
    torch.cat([part(x) for part in parts.values()], dim=1).square().mean().backward()
    optimiser.step()
    merged = mt.merge_heads(parts)
    with torch.no_grad():
        after = merged(x)
    print("trained:", trained)
    print("objectness and box are as they were:", torch.equal(after[:, :7], y[:, :7]))
    print("classes are as they were:", torch.equal(after[:, 7:], y[:, 7:]))
    print("and one layer again:", tuple(merged.weight.shape))


def train_a_part_of_a_detector() -> None:
    """The same with a whole detector, whose head is in parts already: only the boxes of the proposals are trained."""
    sizes = {"channels": [8, 16], "strides": [2, 2], "out_channels": 16, "box_head_size": 32}
    detector = mt.create_model("faster_rcnn_plain_encoder", num_classes=3, **sizes)
    mt.freeze(detector, r"(?!rpn\.head\.bbox_pred).*", norm_stats=True)
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    target = {"boxes": torch.tensor([[2.0, 3, 4, 14, 15, 16]]), "labels": torch.tensor([1])}
    losses = detector.train()([torch.randn(1, 24, 24, 24)], [target])
    optimiser = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1)
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    moved = [key for key, tensor in detector.state_dict().items() if not torch.equal(tensor, before[key])]
    print("moved in the detector:", moved)


def main() -> None:
    torch.manual_seed(0)
    # before the last layer: 16 scans, 32 channels, a grid of 7 x 7 x 7
    x = torch.rand(16, 32, 7, 7, 7)
    last_layer = nn.Conv3d(32, 107, 3, padding=1)
    with torch.no_grad():
        y = last_layer(x)
    print("output:", tuple(y.shape))
    split_by_hand(x, last_layer, y)

    parts = mt.split_head(last_layer, SIZES)
    with torch.no_grad():
        y_combined = torch.cat([part(x) for part in parts.values()], dim=1)
    print("by split_head, all values are equal:", bool((y == y_combined).all()))
    train_one_part(x, parts, y)
    train_a_part_of_a_detector()


if __name__ == "__main__":
    main()
