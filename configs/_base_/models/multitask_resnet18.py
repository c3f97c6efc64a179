# A ResNet-18 encoder with a head for every target of the dataset: decoders for masks, linear layers on the mean of the
# last map for classes and quantities. Channels, classes, and the scale of quantities are the dataset's.
# Encoder and decoders are those of resunet18.py; network=dict(heads=dict(NAME=dict(...))) gives a head its own words.
model = dict(
    type="MultiTask",
    network=dict(
        type="multitask_resnet18",
        deep_stem=True,
        pool="none",
        decoder=dict(full_resolution_skip=16, decoder_block="basic", aux_train=True),
    ),
    channels_last=True,
)
