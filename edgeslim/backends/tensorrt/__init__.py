"""NVIDIA GPUs: fp16 and INT8 files from which TensorRT builds an engine on the device."""
