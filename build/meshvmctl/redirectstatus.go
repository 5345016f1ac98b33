package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectStatus(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect status: not built yet")
	return exitUsage
}
