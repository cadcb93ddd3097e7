"""Stages that add what the sender did not know: cost and flags."""
