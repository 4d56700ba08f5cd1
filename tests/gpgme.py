"""Signs by gpgme as its users do, and prints what it has understood: python3 gpgme.py FILE SPEC...

The layouts are those of gpgme.h, the same since 1.9."""

import ctypes as c
import sys

lib = c.CDLL("libgpgme.so.11")
lib.gpgme_check_version.restype = c.c_char_p
lib.gpgme_strerror.restype = c.c_char_p


class Key(c.Structure):
    _fields_ = [("refs", c.c_uint), ("flags", c.c_uint), ("protocol", c.c_int), ("issuer", c.c_void_p * 3),
                ("trust", c.c_int), ("subkeys", c.c_void_p), ("uids", c.c_void_p), ("last", c.c_void_p * 2),
                ("mode", c.c_uint), ("fpr", c.c_char_p)]


class Signature(c.Structure):
    _fields_ = [("next", c.c_void_p), ("type", c.c_int), ("pubkey_algo", c.c_int), ("hash_algo", c.c_int),
                ("old", c.c_ulong), ("timestamp", c.c_long), ("fpr", c.c_char_p), ("older", c.c_uint), ("sig_class", c.c_uint)]


class Result(c.Structure):
    _fields_ = [("invalid_signers", c.c_void_p), ("signatures", c.POINTER(Signature))]


lib.gpgme_op_sign_result.restype = c.POINTER(Result)


def do(name, *arguments):
    error = getattr(lib, name)(*arguments)
    if error:
        sys.exit(f"{name}: {lib.gpgme_strerror(error).decode()}")


lib.gpgme_check_version(None)
# The engine's version is asked for, and must be a known one.
do("gpgme_engine_check_version", 0)
context = c.c_void_p()
do("gpgme_new", c.byref(context))
lib.gpgme_set_armor(context, 1)
for spec in sys.argv[2:]:
    for secret in (0, 1):
        key = c.POINTER(Key)()
        do("gpgme_op_keylist_start", context, spec.encode(), secret)
        do("gpgme_op_keylist_next", context, c.byref(key))
        found = key.contents
        # Bits of the flags: can_sign, secret.
        print(spec, ("public", "secret")[secret], found.fpr.decode(), found.flags >> 5 & 1, found.flags >> 7 & 1)
        lib.gpgme_op_keylist_end(context)
    lib.gpgme_signers_clear(context)
    do("gpgme_signers_add", context, key)
    for mode in (1, 2):
        data, signed = c.c_void_p(), c.c_void_p()
        with open(sys.argv[1], "rb") as file:
            text = file.read()
        do("gpgme_data_new_from_mem", c.byref(data), text, len(text), 1)
        do("gpgme_data_new", c.byref(signed))
        do("gpgme_op_sign", context, data, signed, mode)
        result = lib.gpgme_op_sign_result(context).contents
        made = result.signatures.contents
        assert not result.invalid_signers and not made.next
        print(made.type, made.pubkey_algo, made.hash_algo, made.sig_class, made.fpr.decode())
        lib.gpgme_data_seek(signed, c.c_long(0), 0)
        buffer = c.create_string_buffer(1 << 20)
        length = lib.gpgme_data_read(signed, buffer, c.c_size_t(len(buffer)))
        with open(f"{sys.argv[1]}.{('asc', 'clear')[mode - 1]}", "wb") as file:
            file.write(buffer.raw[:length])
