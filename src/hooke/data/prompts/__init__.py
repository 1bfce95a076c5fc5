"""Prompts: with counterfactuals, with a circuit to look for, neutral passages, and lists of words."""
