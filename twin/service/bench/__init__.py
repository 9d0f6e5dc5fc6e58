"""Benchmarks that reproduce the figures of the README."""
