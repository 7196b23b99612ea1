"""Finds which table and column holds which logical field."""
