package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectPlan(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect plan: not built yet")
	return exitUsage
}
