"""What is known of a head and of labelled vectors, gathered for people to look at.

`facts` names all of it, as records that become JSON. Nothing here draws or writes a file.
"""
