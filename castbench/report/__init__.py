"""The report room: a run and its projection become words and tables; nothing here measures or prices."""
