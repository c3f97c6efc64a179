"""A source without labels: restore patches of the 140 hippocampus scans that are not scored, in 2000 steps."""

_base_ = "../../configs/resunet18_restoration.py"
model = dict(network=dict(base_channels=32, stem_channels=32))
split = dict(val=60, seed=0)  # the test cases of the comparison, on which nothing is trained or chosen
patch_size = [32, 48, 32]
train_cfg = dict(max_epochs=40, val_interval=40)
