"""Decides what an export may keep and what it renders."""
