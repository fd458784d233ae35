"""Who says what of the rows: the head, or models that did not learn from them.

`scored_rows` has what the head says of all rows, `refits` what models like it say of rows that they
did not see, `judged` settles whose word figures are of, and `doubts` scores labels by it.
"""
