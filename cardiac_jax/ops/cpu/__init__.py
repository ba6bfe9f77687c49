"""Formulations of operations that help XLA on a CPU only; other platforms run the plain form."""
