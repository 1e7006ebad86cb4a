"""Build a PyTorch module that a program has made, from Python: python build_module.py IMAGES OUT.

IMAGES holds `train` and `test` with a folder of images for every label, as write_images.py writes; OUT gets the
artifact. The network is trained here for a few seconds: in place of that stands whatever makes yours.
"""

import argparse
from pathlib import Path
from typing import Any

from little_net import LABELS, PREPROCESSING
from train import read, trained

import edgeslim


def main() -> None:
    """Train, ask whether it can be built, build, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()

    network = trained(*read(arguments.images / "train"), epochs=arguments.epochs)
    # What a file would say beside the network, a module is given with.
    told: dict[str, Any] = {"preprocessing": PREPROCESSING, "labels": LABELS, "device": "raspberry-pi"}

    reasons = edgeslim.check(network, **told).reasons
    if reasons:
        raise SystemExit("\n".join(reasons))
    try:
        report = edgeslim.build(
            network,
            **told,
            data=arguments.images,  # `train` calibrates, `test` judges
            formats=["onnx"],
            max_drop=2.0,  # points of accuracy
            prune=False,
            out=arguments.out,
        )
    except edgeslim.Refused as refused:  # below a demand: the artifact is there all the same, marked rejected
        raise SystemExit(str(refused)) from refused
    for file in report.artifact.manifest.models:
        quality = file.quality
        print(f"{file.path}: {file.bytes:,} bytes, {quality.metric} {quality.value:.1f} {quality.unit}")
    print(edgeslim.verify(arguments.out))


if __name__ == "__main__":
    main()
