"""Write a head in the formats of other tools: a folder that works without frostline.

`formats` lists the formats, `export` makes the folder, and each format has a module of its own.
"""
