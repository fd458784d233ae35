"""Results in, pictures out: SVG, PNG or a page of HTML. Computes nothing.

`picture` has the marks that a picture is made of, `comparison` and `shares` draw a result with
them, `svg`, `png` and `page` write a picture in a format, `files` chooses one by the name of a
file.
"""
