"""Decides which published blocks an export keeps and which it renders."""
