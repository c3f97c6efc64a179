# A ResNet-18 encoder with a U-Net decoder. Channels and classes are the dataset's.
model = dict(type="Segmenter", network=dict(type="resunet18"))
