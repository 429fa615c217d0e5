"""One plausibility step for every volume: what a file claims is compared with what it holds."""
