"""Executors: where trials run, behind one protocol."""
