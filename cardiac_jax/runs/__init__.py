"""Whole runs: a work directory trained, restored, evaluated and compared with others. What the commands call."""
