// Command probe says what the resolver of Go's standard library says for names: a line each, with the name and its IPv4 addresses in
// order, or - where there is none. It is built without cgo, or it would ask the C library.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	for _, name := range os.Args[1:] {
		fmt.Fprintln(os.Stdout, name, lookup(name))
	}
}

func lookup(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return "-"
	}
	var text []string
	for _, address := range addresses {
		text = append(text, address.Unmap().String())
	}
	slices.Sort(text)
	return strings.Join(slices.Compact(text), ",")
}
