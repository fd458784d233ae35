"""The command line: parse options, call one function, print what it gives.

`commands` has a function a command, `options` what several commands share, `progress` what is shown
while work goes on. Imports everything; nothing imports it but `python -m pipeline`.
"""
