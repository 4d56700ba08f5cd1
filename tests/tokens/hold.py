"""hold.py READER exclusive|transaction: keeps a card for itself, as gpg's scdaemon does, until its standard input ends."""

import ctypes
import sys

pcsc = ctypes.CDLL("libpcsclite.so.1")
long, pointer = ctypes.c_ulong, ctypes.byref
context, card, protocol = ctypes.c_long(), ctypes.c_long(), long()


def call(name, *arguments):
    function = getattr(pcsc, name)
    function.restype = ctypes.c_long
    code = function(*arguments)
    if code:
        sys.exit(f"{name}: {code & 0xFFFFFFFF:#x}")


SYSTEM, EXCLUSIVE, SHARED, ANY = 2, 1, 2, 3
call("SCardEstablishContext", long(SYSTEM), None, None, pointer(context))
mode = EXCLUSIVE if sys.argv[2] == "exclusive" else SHARED
call("SCardConnect", context, sys.argv[1].encode(), long(mode), long(ANY), pointer(card), pointer(protocol))
if mode == SHARED:
    call("SCardBeginTransaction", card)
print("held", flush=True)
sys.stdin.read()
