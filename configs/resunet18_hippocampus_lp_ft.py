"""A pretrained encoder for the hippocampus, at first frozen under a new decoder, after 150 of 500 steps trained too."""

_base_ = "resunet18_hippocampus_transfer.py"
finetune = dict(policy="lp_ft", share=0.3, layer_decay=0.75)
