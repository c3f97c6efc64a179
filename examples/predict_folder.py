"""Run a model folder over all scans of a folder, with one network in memory; a scan that fails does not stop the rest.

    python examples/predict_folder.py MODEL FOLDER OUTPUT_FOLDER

`medtransfer predict` does the same from the shell, with a report. This is how to do it in your own program.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import medtransfer as mt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("folder", help="a folder of NIfTI files, one a case")
    parser.add_argument("output", help="where CASE.nii.gz and CASE.json go")
    arguments = parser.parse_args()

    predictor = mt.Predictor(arguments.model)
    for scan in sorted(Path(arguments.folder).glob("*.nii*")):
        try:
            predictor.predict(scan).save(arguments.output)
            print(f"{scan.name}: done")
        except mt.MedTransferError as error:
            print(f"{scan.name}: left out, {error.reason}")


if __name__ == "__main__":
    main()
