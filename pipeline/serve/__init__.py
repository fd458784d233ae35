"""Serve heads over HTTP: one process, one copy of each encoder, one forward pass for all heads.

`server` starts and ends it, `app` are the routes. `guards` look at a request before its route does,
`protocol` bounds what a connection may take and `reading` what a body may, by the numbers in
`limits`; `refusals` say what is answered then. `schema` says what requests and answers look like,
`information` what is served, `metrics` count. The package `scorer` does the work.
"""
