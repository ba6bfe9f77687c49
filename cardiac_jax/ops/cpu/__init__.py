"""Formulations of operations that only help XLA on a CPU; on other platforms the plain form runs."""
