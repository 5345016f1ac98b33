package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectRecover(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect recover: not built yet")
	return exitUsage
}
