"""Does a pretrained encoder help on the hippocampus? Against scratch with 4 to 32 labelled cases: 48 runs of 500 steps.

For `medtransfer compare`; the 60 cases of split.val are the test. Further sources and policies are further arms.
"""

_base_ = "resunet18_hippocampus.py"
compare = dict(
    sources=dict(pretrained="weights/pretrained"),
    policies=["frozen", "lp_ft", "full"],
    cases=[4, 8, 16, 32],
    seeds=[0, 1, 2],
    transfer=dict(input_channels="interpolate", head="drop", min_coverage=0.5),
)
