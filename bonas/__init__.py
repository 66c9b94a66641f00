"""bonas: Bayesian-optimization neural architecture search. Placeholder door."""
