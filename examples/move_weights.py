"""Weights into other dimensions, heads and classes, and back: each step says what holds exactly. Takes seconds.

python examples/move_weights.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import medtransfer as mt

TINY = {"base_channels": 8, "stem_channels": 8}


@torch.no_grad()
def main() -> None:
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)

    # 2-D weights, as of an ImageNet ResNet, in a 3-D network: on a volume that is constant along the new axis it sees
    # what the 2-D network sees in a slice.
    flat = mt.create_model("resnet18", in_channels=3, num_classes=5, conv_cfg={"type": "Conv2d"}, **TINY).eval()
    deep = mt.create_model("resnet18", in_channels=3, num_classes=5, **TINY).eval()
    report = mt.transfer(flat, deep, head="keep", inflation="center")
    print(report.summary())
    image = torch.randn(1, 3, 32, 32)
    volume = image.unsqueeze(2).expand(-1, -1, 32, -1, -1)
    print("same answer:", torch.allclose(deep(volume), flat(image), atol=1e-5))

    # A classifier that gives a volume of activations for each class, without training.
    volumes = mt.to_fcn(deep)
    print(tuple(volumes(volume).shape))

    # Other classes: the rows of those that stay are kept bit for bit, new ones start from the mean of the old.
    more = mt.remap_classes(deep.head_fc, {0: 0, 1: 3, 2: None})
    print(more.out_features, torch.equal(more.weight[1], deep.head_fc.weight[3]))

    # One layer in parts that train alone, and merged again.
    parts = mt.split_head(torch.nn.Conv3d(8, 105, 3), {"objectness": 1, "box": 4, "classes": 100})
    print({name: part.out_channels for name, part in parts.items()}, mt.merge_heads(parts).out_channels)

    # Where do two files differ?
    torch.save(flat.state_dict(), folder / "before.pth")
    flat.head_fc.bias += 1
    torch.save(flat.state_dict(), folder / "after.pth")
    print(mt.diff(folder / "before.pth", folder / "after.pth").summary())


if __name__ == "__main__":
    main()
