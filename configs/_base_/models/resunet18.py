# A ResNet-18 encoder with a U-Net decoder. Channels and classes are the dataset's.
# The skip connection at full resolution keeps structures of a few voxels, which the stem's stride would blur.
model = dict(
    type="Segmenter",
    network=dict(type="resunet18", deep_stem=True, full_resolution_skip=16),
    channels_last=True,
)
