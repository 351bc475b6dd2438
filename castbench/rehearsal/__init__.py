"""A fleet in miniature: one real server process with its batching queue, fed in time, held against what was replayed.

client.play ── requests, each at its time ─▶ server process: reader ─▶ BatchQueue ─▶ encoder
            ◀─ batches, with start and end ─┘                          (fake_server: the same queue, a virtual clock)
"""
