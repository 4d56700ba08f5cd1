#!/bin/sh
# Written by 'sigsh-client setup reprepro'. In conf/distributions: SignWith: !PATH-OF-THIS-FILE
# reprepro calls it with Release.new, InRelease.new, Release.gpg.new; what is not wanted is empty.
set -e
[ -z "$2" ] || @SIGN@ --cleartext --output "$2" -- "$1"
[ -z "$3" ] || @SIGN@ --armor --output "$3" -- "$1"
