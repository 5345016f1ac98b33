#!/bin/sh
# Runs every fuzz target of the module, one after the other, each for FUZZTIME (10s). Says a line for each;
# ends at the first finding, with where its reproducer lies. With arguments: only in these folders.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
fuzztime=${FUZZTIME:-10s}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

tab=$(printf '\t')

# A package a line: those with a target in a file that is built here.
"$go" list -f '{{range .TestGoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}{{"\t"}}{{.}}
{{end}}{{range .XTestGoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}{{"\t"}}{{.}}
{{end}}' "${@:-./...}" >"$scratch/files"
while IFS=$tab read -r package folder file; do
	if [ -n "$package" ] && grep -q '^func Fuzz' "$folder/$file"; then
		printf '%s\t%s\n' "$package" "$folder"
	fi
done <"$scratch/files" | uniq >"$scratch/packages"

targets=0
while IFS=$tab read -r package folder; do
	# One build for all targets of a package, instrumented as go test -fuzz has it.
	"$go" test -c -fuzz=Fuzz -o "$scratch/test" "$package"
	rm -rf "$scratch/corpus"
	(cd "$folder" && "$scratch/test" -test.list='^Fuzz') >"$scratch/targets"
	while read -r target; do
		began=$(date +%s)
		# From the committed seeds each time: what earlier runs found interesting would take most of a
		# short run just to read. Minimizing is bounded by runs and not by time: what is found while it
		# goes on at the end of the time would be lost without a word.
		if ! (cd "$folder" && "$scratch/test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$fuzztime" \
			-test.fuzzminimizetime=100x -test.parallel=2 \
			-test.fuzzcachedir="$scratch/corpus") >"$scratch/log" 2>&1 </dev/null; then
			cat "$scratch/log"
			echo "fuzz: $package $target: failed; a reproducer, if there is one, is in ${folder#"$PWD"/}/testdata/fuzz/$target" >&2
			exit 1
		fi
		runs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$scratch/log" | tail -n 1)
		if [ "${runs:-0}" -eq 0 ]; then
			cat "$scratch/log"
			echo "fuzz: $package $target: did not run" >&2
			exit 1
		fi
		echo "fuzz: $package $target: $runs inputs in $(($(date +%s) - began)) s, nothing found"
		targets=$((targets + 1))
	done <"$scratch/targets"
done <"$scratch/packages"
if [ "$targets" -eq 0 ]; then
	echo "fuzz: no fuzz target found" >&2
	exit 1
fi
