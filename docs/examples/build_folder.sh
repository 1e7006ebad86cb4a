#!/usr/bin/env bash
# A folder of images becomes an artifact, on the command line: ./build_folder.sh FOLDER [EPOCHS]
# FOLDER gets the images, the weights and the artifact; it must not be there yet.
set -euo pipefail
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1 epochs=${2:-10}
mkdir "$folder"

# Yours: a folder with `train` and `test`, each with a folder of images for every class. Here: what edgeslim ships.
python "$examples/write_images.py" "$folder/clothes" --test 1000
# Yours: however you train. What is wanted is a file of weights.
python "$examples/train.py" "$folder/clothes" "$folder/little_net.safetensors" --epochs "$epochs"

model=$examples/little_net.py:make
edgeslim check "$model" --device raspberry-pi --weights "$folder/little_net.safetensors"
edgeslim build "$model" --device raspberry-pi --weights "$folder/little_net.safetensors" --data "$folder/clothes" \
    --no-prune --format onnx --max-drop 2 --out "$folder/artifact"
edgeslim verify "$folder/artifact.tar.gz"
