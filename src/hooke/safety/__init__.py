"""Safety uses of the methods: what a model does that its reference does not, and the assessment of one model."""
