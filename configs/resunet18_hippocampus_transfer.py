"""The same ResUNet-18 for the hippocampus, its encoder taken over from a pretrained network."""

_base_ = "resunet18_hippocampus.py"
transfer = dict(source="weights/pretrained", input_channels="interpolate", head="drop", min_coverage=0.5)
