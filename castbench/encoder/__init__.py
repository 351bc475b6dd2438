"""The served model: a pre-norm encoder whose attention is swapped, its inputs, and its work counted without torch."""
