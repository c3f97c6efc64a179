"""Freeze all but the last layer, by a regex of names and by blocks `features` and `output`. Takes seconds.

The steps are those of GluonCV's collect_params, here in 3-D. python examples/freeze_blocks.py
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

import medtransfer as mt


def features() -> list[tuple[str, nn.Module]]:
    conv = nn.Conv3d(1, 6, 5, padding=2)
    return [("conv0", conv), ("sigmoid", nn.Sigmoid()), ("pool", nn.MaxPool3d(2, 2)), ("flatten", nn.Flatten())]


class ConvNet(nn.Module):
    """A network that extracts features and passes them to an output block."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict(features()))
        self.output = nn.Linear(6 * 4**3, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x))


def moved_by_training(net: nn.Module, size: int = 8) -> list[str]:
    """Train a little, with momentum and weight decay, and say what is no longer as it was: weights and statistics."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, weight_decay=0.0005, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        net.train()(torch.randn(4, 1, size, size, size)).square().mean().backward()
        optimizer.step()
    return [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]


def by_names() -> None:
    """All the parameters; those that do not match "dense" from their start; only these are frozen."""
    net = nn.Sequential(OrderedDict([*features(), ("dense0", nn.Linear(6 * 4**3, 10))]))
    print(mt.collect_params(net))
    mt.collect_params(net, "(?!dense).*").freeze()
    print("trained:", moved_by_training(net))


def by_blocks() -> None:
    """With separate attributes for the blocks no regex is needed."""
    net = ConvNet(n_classes=10)
    mt.collect_params(net.features).freeze()
    print("trained:", moved_by_training(net))


def in_the_zoo() -> None:
    """Classifiers of the zoo have both blocks; they hold the network's own layers, under the network's own names."""
    net = mt.create_model("vgg11", num_classes=10, base_channels=4, batch_norm=True, fc_channels=8, head_pool=1)
    x = torch.rand(1, 1, 32, 32, 32)
    print("output(features(x)) is net(x):", torch.equal(net.eval().output(net.features(x)), net(x)))

    frozen = mt.collect_params(net, "(?!head).*").freeze()
    print(frozen.names == mt.collect_params(net.features).names, len(frozen), "parameters frozen")
    mt.collect_params(net.features).unfreeze()
    mt.collect_params(net.features).freeze()
    print("trained:", moved_by_training(net, size=32))  # batch norms' statistics stay too

    # by words, which a config has as well: finetune=dict(policy="full", freeze="features")
    mt.unfreeze(net)
    mt.freeze(net, "features")
    mt.freeze(net, "output", except_="head_fc")  # the last layer alone trains
    print("trained:", moved_by_training(net, size=32))


def main() -> None:
    torch.manual_seed(0)
    by_names()
    by_blocks()
    in_the_zoo()


if __name__ == "__main__":
    main()
