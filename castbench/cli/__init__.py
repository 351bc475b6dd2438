"""The command line: signatures and printing, one file per command; the work is imported inside the functions."""
