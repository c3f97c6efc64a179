"""A pretrained encoder for the hippocampus that stays as it is, with low-rank adapters in its two deepest stages."""

_base_ = "resunet18_hippocampus_transfer.py"
finetune = dict(policy="lora", rank=8, pattern="layer[34]")
