"""Exports one snapshot from many machines: a plan holds it, tasks export ranges of it, one commit publishes."""
