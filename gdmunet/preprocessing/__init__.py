"""From raw volumes to plans and prepared cases, and exactly back."""
