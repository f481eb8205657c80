"""The msgpack extension codes of the value format (docs/formats/value.md). They are for ever."""

TUPLE = 1  # the encoding of a list of the items
SET = 2  # the encoding of a list of the items, sorted by their encodings
FROZENSET = 3  # the same
INTEGER = 4  # an integer beyond 64 bits: big-endian two's complement, as short as can be
BYTES_BLOB = 5  # bytes of 64 KiB and more: 32 bytes BLAKE3, 8 bytes size, big-endian
BUFFER_BLOB = 6  # the memory of an array and the like: the same
TYPED = 7  # the encoding of a list: the name of the codec, then its parts
JOB = 8  # the key of a job whose result is not known yet; only in job keys, never stored
