"""Words the files that people and scripts read beside the exported data: page, history, changes."""
