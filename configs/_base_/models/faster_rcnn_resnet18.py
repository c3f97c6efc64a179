# A Faster R-CNN around a ResNet-18. Channels, classes and anchors are the dataset's.
# Structures of a few voxels need resolution: no pooling after the stem, so that the pyramid's maps, from layer2 on, are
# at 1/4, 1/8 and 1/16. 64 channels a map, since a 3x3x3 convolution has three times the weights of a 3x3 one.
model = dict(
    type="Detector",
    network=dict(
        type="faster_rcnn_resnet18",
        deep_stem=True,
        pool="none",
        out_channels=64,
        anchor_sizes="data",  # the shapes are fitted with them
        box_head_size=256,
        box_batch_size_per_image=64,
    ),
)
