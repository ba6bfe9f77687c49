"""Metrics of one case or of a cohort, without file access or plotting."""
