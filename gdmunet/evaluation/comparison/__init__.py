"""Several trainers side by side on the same cases."""
