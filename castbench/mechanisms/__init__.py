"""Attention mechanisms, a folder each: a description without torch, a module, a reference as oracle.

`registry` finds them; they do not import one another.
"""
