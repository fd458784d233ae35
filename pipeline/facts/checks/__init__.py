"""What may be wrong with a head or with rows: each check says what it found, and a cure.

`checks` makes all of them, `of_head` and `of_rows` have one function each, and `subject` holds what
they look at.
"""
