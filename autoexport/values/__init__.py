"""The rules that turn stored values into published ones."""
