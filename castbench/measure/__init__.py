"""Turning a plan into observations: the runner decides what runs when, a rig runs it and reads the clocks."""
