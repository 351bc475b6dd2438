"""From measured milliseconds to servers and money: pure functions, prices.py (which reads a file) apart."""
