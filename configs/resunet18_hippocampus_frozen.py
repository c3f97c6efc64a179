"""A pretrained encoder for the hippocampus that stays as it is, statistics included: decoder and head train."""

_base_ = "resunet18_hippocampus_transfer.py"
finetune = dict(policy="frozen")
