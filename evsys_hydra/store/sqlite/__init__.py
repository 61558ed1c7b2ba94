"""The SQLite side of the local store: the file, its tables, and the operations on them."""
