"""Frozen foundation encoders: a volume in, feature maps at several levels out."""
