"""The same segmenter, fine-tuned: its encoder is taken over from the demo's classifier."""

_base_ = "demo_tissue.py"
transfer = dict(source="medtransfer_demo/pretrain/best", input_channels="interpolate", head="drop", min_coverage=0.5)
