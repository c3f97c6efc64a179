"""Fine-tuning in plain PyTorch on made-up data: LP-FT with layer-wise rates and L2-SP, then adapters. Takes seconds.

python examples/fine_tune.py
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import medtransfer as mt

SMALL = {"base_channels": 4, "stem_channels": 4, "pool": "none"}
STEPS = 30


def make_batch(cases: int = 2) -> tuple[Tensor, Tensor]:
    """Scans of 16 voxels with a bright box, and where it is."""
    image, label = torch.randn(cases, 1, 16, 16, 16), torch.zeros(cases, 16, 16, 16, dtype=torch.long)
    for case, corner in enumerate(torch.randint(0, 8, (cases, 3)).tolist()):
        box = tuple(slice(start, start + 8) for start in corner)
        label[case][box] = 1
    return image + 3 * label.unsqueeze(1), label


def weights(part: nn.Module) -> list[Tensor]:
    """Weights and norm statistics, to be compared later."""
    return [value.clone() for value in part.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def pretrained_encoder() -> nn.Module:
    """In real life a weight file: mt.transfer takes its path."""
    return mt.create_model("resnet10", num_classes=4, **SMALL)


def train_lp_ft(net: nn.Module) -> None:
    """Decoder and head first, then everything, slower towards the input and held to the source weights."""
    phases = {phase.start: phase.trains for phase in mt.build_phases("lp_ft", net, STEPS, share=0.5)}
    penalty = mt.SourcePenalty(net, alpha=0.01)
    groups = mt.param_groups(net, lr=0.01, weight_decay=0.01, layer_decay=0.75, head_lr_mult=2, no_decay="encoder")
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    source = weights(net.encoder_4)
    for step in range(STEPS):
        if step in phases:
            print(f"step {step}, encoder as the source has it: {equal(source, weights(net.encoder_4))}")
            mt.train_only(net, phases[step])
        image, label = make_batch()
        loss = nn.functional.cross_entropy(net.train()(image), label) + penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
    print("at the end:", equal(source, weights(net.encoder_4)))
    print("the average is another network:", not equal(weights(net.final_layer), weights(average.module.final_layer)))


def train_adapters(net: nn.Module) -> None:
    """The same encoder for another task, with low-rank adapters alone, that end in plain weights."""
    print(mt.add_lora(net, rank=2, pattern="layer[34]")[:2])
    print(mt.trainable_table(net))
    optimizer = torch.optim.AdamW(mt.param_groups(net, lr=0.01))
    for _ in range(5):
        image, label = make_batch()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net.train()(image), label).backward()
        optimizer.step()
    net.eval()
    adapted = copy.deepcopy(net)
    mt.merge_lora(net)
    with torch.no_grad():
        print("merged gives the same:", torch.allclose(net(image), adapted(image), atol=1e-5))
    print("keys of adapters left:", sum("lora" in key for key in net.state_dict()))


def main() -> None:
    torch.manual_seed(0)
    encoder = pretrained_encoder()
    net = mt.create_model("resunet10", num_classes=2, **SMALL)
    print(mt.transfer(encoder, net).summary())
    train_lp_ft(net)

    other = mt.create_model("resunet10", num_classes=2, **SMALL)
    mt.transfer(encoder, other)
    train_adapters(other)


if __name__ == "__main__":
    main()
