"""The served encoder that mechanisms are swapped into: its model, its inputs, its counted work."""
