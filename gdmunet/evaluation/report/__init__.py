"""Pages and pictures for people.

Reads what the other rooms wrote: `sources` finds the files of a folder, `content` holds what a page shows, `sections`,
`score_tables` and `charts` say it as values, and three templates write it as HTML (`page`). `server` serves whole
volumes, `pictures` draws PNG files.
"""
