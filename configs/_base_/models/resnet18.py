# A ResNet-18 with a classification head. Channels and classes are the dataset's.
model = dict(type="Classifier", network=dict(type="resnet18", deep_stem=True), channels_last=True)
