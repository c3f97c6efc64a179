"""Segment organs in CT (Decathlon Task09, the spleen): spacing and intensities are measured from the training cases."""

_base_ = ["resunet18_hippocampus.py"]
data_root = "data/Task09_Spleen"
split = dict(val=0.2, seed=0)
preprocessing = dict(spacing="median", intensity=dict(scheme="ct"))
patch_size = [96, 96, 64]
train_dataloader = dict(batch_size=2)
