"""Extrapolation of learning curves on published tables; see ``run.py``."""
