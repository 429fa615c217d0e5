"""The parts of `gpu_proof.py`: what is measured on the day a GPU is there."""
