"""Labelled text for probes: the packaged data sets, and readers of a person's own."""
