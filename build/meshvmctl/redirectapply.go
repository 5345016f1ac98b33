package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectApply(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect apply: not built yet")
	return exitUsage
}
