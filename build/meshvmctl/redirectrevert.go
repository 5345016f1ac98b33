package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectRevert(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect revert: not built yet")
	return exitUsage
}
