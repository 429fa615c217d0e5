"""gdmunet: self-configuring conditional 3D medical image generation in one network pass."""

__version__ = "0.1.0"
