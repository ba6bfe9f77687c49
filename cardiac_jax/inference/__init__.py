"""Prediction of whole cases with a trained system."""
