# A ResNet-18 encoder with a U-Net decoder. Channels and classes are the dataset's.
# Structures of a few voxels need resolution: no pooling after the stem, so that the deepest stage is at 1/16, and a
# skip connection at full resolution. Deep supervision (aux_train) gets the deep stages going within few steps. Basic
# blocks in the decoder, since a bottleneck of 16 channels leaves 4 for its only 3x3x3 convolution.
model = dict(
    type="Segmenter",
    network=dict(
        type="resunet18",
        deep_stem=True,
        pool="none",
        full_resolution_skip=16,
        decoder_block="basic",
        aux_train=True,
    ),
    channels_last=True,
)
