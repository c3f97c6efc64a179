"""Every kind of problem that a check can find, in the order in which they are shown: its word, name and remedy."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """What a problem is called, and what to do about it."""

    title: str
    advice: str


RULES = {
    "layout": Rule("The dataset's own listing", "Correct the listing or the names of the files."),
    "scan": Rule("Scans that the gate refuses or warns of", "Each line says what to do; docs/volumes.md lists all."),
    "channels": Rule("Scans with too few or too many channels", "Every case needs the same channels, in one order."),
    "channel-grid": Rule("Channels of one case on different grids", "Resample them onto the first."),
    "channel-twice": Rule(
        "One scan given for two channels", "Two names hold the same voxels: one is a copy by mistake."
    ),
    "label": Rule("Labels that the gate refuses or warns of", "Each line says what to do; docs/volumes.md lists all."),
    "label-grid": Rule("Labels that do not lie on their scan", "Resample the label onto the scan, or mend its header."),
    "label-classes": Rule("Labels outside the named classes", "Remap them, or name the classes."),
    "label-is-scan": Rule("A scan given as its own label", "The listing or a copy put the scan in the label's place."),
    "label-empty": Rule("Labels without any class", "Fine where nothing is to be found; else the label is missing."),
    "label-twice": Rule("One label for several scans", "A label was copied: check which scan it belongs to."),
    "box-outside": Rule("Boxes outside of their scan", "Check box_mode and box_space; docs/datasets.md explains them."),
    "class-absent": Rule("Classes that never occur", "Take cases that have them, or drop the class."),
    "class-unseen": Rule("Classes that no training case has", "Move cases between training and validation."),
    "class-rare": Rule("Classes of a single case", "It can be learned or validated, not both."),
    "leak": Rule("Leaks between the parts", "Keep all scans of a patient on one side."),
    "duplicate": Rule("The same scan under several names", "Keep one, or state one patient for all of them."),
    "few": Rule("Too few cases", "At least two are needed to train and to validate."),
    "constant": Rule("Scans in which all voxels are equal", "Nothing can be learned from them: export them again."),
    "spacing": Rule("Spacings far from the others", "Check the unit (mm or cm), or expect much resampling."),
    "size": Rule("Scans much larger or smaller than the others", "Check that it is the same kind of scan."),
    "intensity": Rule("Intensities far from the others", "Check the unit (HU or rescaled), or keep to a z-score."),
    "volume": Rule("Class volumes far from the others", "Look at the label: it may be cut, or of another class."),
}
