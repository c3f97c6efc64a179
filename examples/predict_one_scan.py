"""Run a model folder over one scan: a segmenter gives a mask on the scan's own grid, a classifier probabilities.

    python examples/predict_one_scan.py MODEL SCAN OUTPUT_FOLDER

A scan of several channels is a comma-separated list of files, in the order of the model's input channels.
"""

from __future__ import annotations

import argparse

import medtransfer as mt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, for example work_dirs/my_run/best")
    parser.add_argument("scan", help="a NIfTI file, or the channels of one case separated by commas")
    parser.add_argument("output", help="where CASE.nii.gz and CASE.json go")
    arguments = parser.parse_args()

    files = arguments.scan.split(",")
    predictor = mt.Predictor(arguments.model)
    result = predictor.predict(files[0] if len(files) == 1 else files)

    for warning in result.warnings:
        print("warning:", warning)
    if predictor.card.task == "segmentation":
        for name, millilitres in result.volumes_ml.items():
            print(f"{name}: {millilitres:.2f} ml")
    else:
        for name, probability in result.probabilities.items():
            print(f"{name}: {probability:.3f}")
    result.save(arguments.output)


if __name__ == "__main__":
    main()
