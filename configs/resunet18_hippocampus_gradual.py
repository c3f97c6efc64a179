"""A pretrained encoder for the hippocampus that thaws from the deepest stage up, a stage an epoch, near its source."""

_base_ = "resunet18_hippocampus_transfer.py"
finetune = dict(policy="gradual", every=1, l2sp=0.01)
