"""Opens an LDB once, with a pool of connections, and reads it until its input ends.

Each read is one transaction: all rows of the table have one value, which belongs to the seq; neither goes back.
A line of input is answered with "SEQ VALUE READS"; what is wrong ends the program with its reason.
"""

import select
import sqlite3
import sys


def connect(path):
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=10)


def read(connection):
    connection.execute("BEGIN")
    try:
        (seq,) = connection.execute("SELECT seq FROM _ldb_seq WHERE id = 1").fetchone()
        rows = connection.execute("SELECT count(*), min(value), max(value) FROM fam___tab").fetchone()
        return seq, rows
    finally:
        connection.execute("COMMIT")


def main():
    path, size, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pool = [connect(path) for _ in range(size)]
    last, reads = (0, ""), 0
    while True:
        seq, (count, least, most) = read(pool[reads % size])
        reads += 1
        if count != wanted or least != most:
            sys.exit(f"at seq {seq}: {count} rows from {least} to {most}")
        if (seq, least) < last or (seq == last[0] and last[1] and least != last[1]):
            sys.exit(f"at seq {seq} with {least}, after {last}")
        last = (seq, least)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            print(seq, least, reads, flush=True)


main()
