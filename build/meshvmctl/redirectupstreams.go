package main

import (
	"context"
	"fmt"
	"io"
)

func runRedirectUpstreams(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "meshvmctl redirect upstreams: not built yet")
	return exitUsage
}
