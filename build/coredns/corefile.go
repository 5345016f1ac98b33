package main

import (
	"errors"
	"flag"
	"io/fs"
	"os"

	"github.com/coredns/caddy"
)

// requireCorefile stops a start that has nothing to serve. CoreDNS would serve a
// built-in Corefile, of a plugin that this build does not have. It loads nothing
// itself: the loader of -conf, or of the file Corefile, comes after it.
func requireCorefile(string) (caddy.Input, error) {
	if conf := flag.Lookup("conf"); conf != nil && conf.Value.String() != "" {
		return nil, nil
	}
	if _, err := os.Stat(caddy.DefaultConfigFile); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no Corefile here: name one with -conf FILE, or start where a file named " + caddy.DefaultConfigFile + " is")
	}
	return nil, nil
}
