"""The same Faster R-CNN for the hippocampus, its encoder taken over from a pretrained network."""

_base_ = "faster_rcnn_hippocampus.py"
transfer = dict(source="weights/pretrained", input_channels="interpolate", head="drop", min_coverage=0.5)
