"""Models and data whose right answer is known."""
