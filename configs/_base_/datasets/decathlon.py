# Segmentation data as the Medical Segmentation Decathlon lays them out (dataset.json, imagesTr, labelsTr).
# data_root, split, preprocessing and patch_size are stated once, for training, validation and the model's card.
data_root = "data/dataset"
split = dict(val=0.2, seed=0)
preprocessing = dict(orientation="RAS", spacing=None, intensity=dict(scheme="zscore"))
patch_size = [96, 96, 96]

train_dataloader = dict(
    batch_size=2,
    num_workers=0,  # prepared volumes are in memory; worker processes cost more than they save on few cores
    sampler=dict(type="CaseSampler", samples_per_epoch=100),
    dataset=dict(type="Decathlon", part="train", augmentation="light"),
)
val_dataloader = dict(
    batch_size=1,  # whole volumes
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Decathlon", part="val"),
)
val_evaluator = dict(type="MeanDice")
