"""Facts in, one HTML file out that needs no network. Computes nothing but drawing.

`page` puts the report together, `charts` draws its figures on the axes of `axes`, `map_data` packs
the points of the map, `size_limit` cuts texts until the page fits, and `words` writes figures and
text for readers. `self_contained` makes templates and their policy, for other pages too. The
folder `templates` has the page's sections, `page.js` what can be done on it, `page.css` what it
looks like.
"""
