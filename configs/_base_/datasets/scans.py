# Scans without labels: a Decathlon folder (imagesTr and imagesTs) or any folder of NIfTI files.
# data_root, split, preprocessing and patch_size are stated once, for training, validation and the model's card.
data_root = "data/scans"
split = dict(val=0.1, seed=0)
preprocessing = dict(orientation="RAS", spacing=None, intensity=dict(scheme="zscore"))
patch_size = [64, 64, 64]
corruption = dict(masked=0.6, cube=6, shuffled=0.3, bent=0.5)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="CaseSampler", samples_per_epoch=200),
    dataset=dict(type="Scans", part="train", augmentation="light", corruption=corruption),
)
val_dataloader = dict(
    batch_size=1,  # one damaged patch of each scan, always the same
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Scans", part="val", corruption=corruption),
)
val_evaluator = dict(type="RestorationScores")
