#!/bin/sh
# Prints the version of a package for a version of git describe: version.sh VERSION. A package's version begins with a digit.
# 1.2.3~rc1 is before 1.2.3, and what is between two releases after the first: 1.2.3+4.g5678abc.
set -eu

case $1 in
v[0-9]*) version=${1#v} ;;
[0-9]*.[0-9]*) version=$1 ;;
*) version=0.0.0+$1 ;;
esac
printf '%s\n' "$version" | sed -E \
	-e 's/-([0-9]+-g[0-9a-f]+(-dirty)?)$/+\1/' \
	-e 's/^([^+]*)-dirty$/\1+dirty/' \
	-e 's/^([^-+]*)-/\1~/' \
	-e 's/-/./g'
