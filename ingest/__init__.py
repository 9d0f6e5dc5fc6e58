"""From the broker to the archive: every message journaled, judged and kept.

It knows the vocabulary and not the physics, and commands nothing.
"""
