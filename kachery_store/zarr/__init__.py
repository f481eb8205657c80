"""Arrays of chunks: one address for the whole, one blob for each chunk (docs/formats/chunked.md).

    content      what an array or a group is: pure data, and its address
    grid         which chunk is where
    manifest     which blob has which chunk, and how it is compressed
    chain        chunk <-> bytes, through zarr's codecs
    chunks       writing and reading one chunk, verified
    arrays       what a store has: opening by address, committing
    reading      a Zarr store, read-only, by address
    writing      a Zarr store that many processes write, and one commits
    importing    any Zarr array or group, of format 2 or 3

`zarr` is imported when something is compressed, opened or written, never before.
"""
