"""Timed figures: ratios within one run, never assertions in a test."""
