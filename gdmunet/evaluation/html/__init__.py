"""A page that shows an evaluation, a training or a comparison, and the local server that shows whole volumes."""
