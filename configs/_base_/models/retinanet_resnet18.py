# A RetinaNet around a ResNet-18. Channels, classes and anchors are the dataset's; the geometry is that of
# faster_rcnn_resnet18.py.
model = dict(
    type="Detector",
    network=dict(type="retinanet_resnet18", deep_stem=True, pool="none", out_channels=64, anchor_sizes="data"),
)
