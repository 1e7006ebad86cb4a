"""Write the clothes that edgeslim ships (Fashion-MNIST) as PNG files by class: python write_images.py FOLDER.

FOLDER/train gets the images with which edgeslim calibrates and selects, FOLDER/test some of those that judge.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import edgeslim

SHIPPED = Path(edgeslim.__file__).parent / "model" / "default"
# The classes of the shipped images in their order, by the names of our folders.
CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def write(folder: Path, part: str, limit: int | None = None) -> int:
    """Write the first images of a shipped part below `folder`, a folder for each class; return how many."""
    with np.load(SHIPPED / f"{part}.npz") as file:
        images, classes = file["images"][:limit], file["labels"][:limit]
    for number, (image, place) in enumerate(zip(images, classes, strict=True)):
        file_name = folder / CLASSES[place] / f"{part}-{number:05}.png"
        file_name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file_name)
    return len(images)


def main() -> None:
    """Write training and test images, and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test", type=int, default=2000, help="how many test images (default 2000, at most 10000)")
    arguments = parser.parse_args()
    train = write(arguments.folder / "train", "calibration") + write(arguments.folder / "train", "selection")
    test = write(arguments.folder / "test", "evaluation", arguments.test)
    print(f"{train} images in {arguments.folder / 'train'}, {test} in {arguments.folder / 'test'}")


if __name__ == "__main__":
    main()
