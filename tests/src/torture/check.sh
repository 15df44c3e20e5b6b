#!/bin/sh
# The tests of this repository: all work is in it, once, and nothing else.
#
# sh check.sh EXPECTED
#
# Each line of the file EXPECTED is one of:
#   work NAME TOKEN     the file work/NAME is "NAME TOKEN"
#   shared FILE TOKEN   the line TOKEN stands in shared/FILE once
#   choice FILE TOKEN   the file choice/FILE is TOKEN
bad=0
fail() {
    echo "$*"
    bad=1
}
while read -r what name token; do
    case $what in
    work) [ "$(cat "work/$name" 2> /dev/null)" = "$name $token" ] || fail "work/$name is not \"$name $token\"" ;;
    shared)
        count=$(grep -cx "$token" "shared/$name")
        [ "$count" = 1 ] || fail "shared/$name has $token $count times"
        ;;
    choice) [ "$(cat "choice/$name" 2> /dev/null)" = "$token" ] || fail "choice/$name is not $token" ;;
    *) fail "$what is not known" ;;
    esac
done < "$1"
just() {
    [ "$2" -eq "$(grep -c "^$1 " "$3")" ] || fail "of $1 there are $2, and $(grep -c "^$1 " "$3") are expected"
}
just work "$(find work -type f 2> /dev/null | wc -l)" "$1"
# Each of these files begins with a line that is nobody's.
just shared "$(cat shared/* | grep -vc '^begin$')" "$1"
just choice "$(find choice -type f 2> /dev/null | wc -l)" "$1"
if grep -rnE '^(<<<<<<<|=======|>>>>>>>)' work shared choice 2> /dev/null; then
    fail "there are marks of conflicts"
fi
exit $bad
