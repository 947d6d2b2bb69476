"""Streams: where windows of production rows come from, one file each."""
