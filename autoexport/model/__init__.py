"""Defines the records that the packages hand to each other."""
