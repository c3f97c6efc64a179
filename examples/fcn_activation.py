"""A classifier of small patches becomes a segmenter of the whole scan: an activation map before any fine-tuning.

A small VGG learns one bit a patch of a real scan: is there white matter in its middle? As a fully convolutional network
it says so of every place at once (Long et al., CVPR 2015). Then scores of finer maps are added and fine-tuned on a few
labelled crops. All numbers are of slices above those that were trained on. Takes about 20 s on one core.

python examples/fcn_activation.py [PICTURE.png [STEPS]]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.demo.template import CLASSES, read_template
from medtransfer.scoring.overlap import overlap
from medtransfer.scoring.ranking_curves import auroc

PATCH, CROP = 12, 24  # voxels of 2 mm
TRAINED, SCORED = slice(0, 45), slice(53, None)  # axial slices, counted from the neck
NETWORK = {"base_channels": 4, "batch_norm": True, "strides": [1, 1, 2, 1, 1], "fc_channels": 32, "head_pool": 3}


class Scan(NamedTuple):
    """Intensities and the mask (1: white matter), both (I, J, K)."""

    image: Tensor
    mask: Tensor


def read_scan() -> Scan:
    """The brain template that comes with the demo, every second voxel."""
    template = read_template()
    every = (slice(None, None, 2),) * 3
    image = torch.from_numpy(template.image[every].astype(np.float32))
    brain = image[image > 0]
    white = torch.from_numpy(template.labels[every] == CLASSES.index("white matter"))
    return Scan((image - brain.mean()) / brain.std(), white.long())


def cut(scan: Scan, corners: Tensor, size: int) -> Scan:
    """Cubes of `size` voxels, (N, 1, size, size, size), and their masks."""
    boxes = [tuple(slice(start, start + size) for start in corner) for corner in corners.tolist()]
    images, masks = (torch.stack([values[box] for box in boxes]) for values in scan)
    return Scan(images.unsqueeze(1), masks)


def patch_centres(scan: Scan) -> list[Tensor]:
    """Voxels around which a patch fits: near the brain but not white matter, and white matter."""
    brain = (scan.image > scan.image.min()).float()[None, None]
    near = nn.functional.max_pool3d(brain, 5, stride=1, padding=2)[0, 0].bool()
    half = PATCH // 2
    inside = torch.zeros_like(near)
    inside[half:-half, half:-half, half:-half] = True
    return [torch.nonzero(where & inside) for where in (near & (scan.mask == 0), scan.mask == 1)]


def train_classifier(scan: Scan, steps: int) -> nn.Module:
    """One label a patch; half of the patches of each kind."""
    net = mt.create_model("vgg11", num_classes=2, head_dropout=0.2, **NETWORK)
    kinds, label = patch_centres(scan), torch.arange(32) % 2
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        centres = torch.stack([kinds[i][torch.randint(len(kinds[i]), ())] for i in label.tolist()])
        step(net, optimizer, cut(scan, centres - PATCH // 2, PATCH).image, label)
        schedule.step()
    return net.eval()


def fine_tune(net: nn.Module, scan: Scan, steps: int) -> nn.Module:
    """The head alone, on crops with all their labels."""
    mt.freeze(net, "features")
    optimizer = torch.optim.AdamW(mt.param_groups(net, lr=0.05))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
    room = torch.tensor(scan.image.shape) - CROP
    for _ in range(steps):
        crops = cut(scan, (torch.rand(2, 3) * room).long(), CROP)
        step(net, optimizer, crops.image, crops.mask)
        schedule.step()
    return net.eval()


def step(net: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, label: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net.train()(image), label).backward()
    optimizer.step()


@torch.no_grad()
def activation(net: nn.Module, scan: Scan, name: str) -> Tensor:
    """The probability of white matter at every voxel, (I, J, K); says how good it is."""
    found = net(scan.image[None, None])[0].softmax(0)[1]
    truth = scan.mask.numpy() == 1
    dice = overlap(found.numpy() > 0.5, truth).dice
    area = auroc(found.double().numpy().ravel(), truth.ravel())
    print(f"{name:<40}AUROC {area:.3f}  Dice {dice:.3f}")
    return found


def draw(path: Path, scan: Scan, before: Tensor, after: Tensor) -> None:
    """One axial and one coronal plane of what was scored, around the brain."""
    shown = {
        "scan": None,
        "white matter": scan.mask,
        "the classifier, at every place": before,
        "with finer scores, fine-tuned": after,
    }
    brain = torch.nonzero(scan.image > scan.image.min())
    box = tuple(slice(low, high + 1) for low, high in zip(brain.amin(0), brain.amax(0), strict=True))
    planes = (lambda volume: volume[box][:, :, 6].T, lambda volume: volume[box][:, 45, :].T)
    figure = Figure(figsize=(12.5, 5.6), layout="constrained", facecolor="black")
    axes = figure.subplots(2, 4, height_ratios=[len(plane(scan.image)) for plane in planes])
    for axis, title in zip(axes[0], shown, strict=True):
        axis.set_title(title, color="white", fontsize=12)
    for row, plane in zip(axes, planes, strict=True):
        for axis, values in zip(row, shown.values(), strict=True):
            axis.imshow(plane(scan.image), cmap="gray", origin="lower", vmin=-1.5, vmax=2)
            axis.axis("off")
            if values is not None:
                drawn = axis.imshow(plane(values), cmap="inferno", origin="lower", vmin=0, vmax=1, alpha=0.75)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6)
    bar.set_label("probability of white matter", color="white")
    bar.ax.tick_params(colors="white")
    figure.savefig(path, dpi=90)


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "fcn_activation.png")
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 120
    torch.manual_seed(0)
    scan = read_scan()
    trained, scored = (Scan(scan.image[..., part], scan.mask[..., part]) for part in (TRAINED, SCORED))
    classifier = train_classifier(trained, steps)

    volumes = mt.to_fcn(classifier, share=False)
    print("fc1", tuple(classifier.head_hidden.fc1.weight.shape), "is", volumes.head_hidden.fc1)
    before = activation(volumes, scored, "before any fine-tuning")

    finer = mt.to_fcn(classifier, share=False, fcn_stride=1)
    same = torch.equal(activation(finer, scored, "with finer scores, which start at zero"), before)
    print("the same at the start:", same)
    after = activation(fine_tune(finer, trained, steps), scored, "with finer scores, fine-tuned")
    draw(path, scored, before, after)


if __name__ == "__main__":
    main()
