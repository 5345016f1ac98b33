package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectWatch(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect watch: not built yet")
	return exitUsage
}
