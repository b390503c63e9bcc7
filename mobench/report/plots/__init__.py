"""Plots as a paper prints them: direct labels, error bars, colour-blind-safe, the same bytes for the same data."""
