"""What people see on a terminal: results that fit it, remarks, and how far work is.

`volume` holds how much is to be said, `streams` says what a stream can show, `output` prints
results and remarks, `progress` shows rate and time left. In a pipe nothing of it is to be seen, and
rich is imported only where a terminal shows something. `completion` answers a shell.
"""
