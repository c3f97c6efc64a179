# Scans without labels: a Decathlon folder (imagesTr and imagesTs) or any folder of NIfTI files.
_base_ = "cases.py"
data_root = "data/scans"
split = dict(val=0.1)
patch_size = [64, 64, 64]
corruption = dict(masked=0.6, cube=6, shuffled=0.3, bent=0.5)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(samples_per_epoch=200),
    dataset=dict(type="Scans", corruption=corruption),
)
val_dataloader = dict(dataset=dict(type="Scans", corruption=corruption))  # one damaged patch of each, always the same
val_evaluator = dict(type="RestorationScores")
