// Command man writes the manual pages of the VM's programs, of what the programs say of themselves:
//
//	man -meshvmctl bin/meshvmctl -out bin/man
//
// Pages of meshvmctl and of its commands are made of their --help, that of the Corefile's options of the plugin's README,
// and coredns-meshvm(8) of coredns-meshvm.md beside this file. The same programs and SOURCE_DATE_EPOCH give the same bytes.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

//go:embed coredns-meshvm.md
var coreDNS string

func main() {
	program := flag.String("meshvmctl", "bin/meshvmctl", "the `PROGRAM` whose commands are described")
	readme := flag.String("plugin", "plugin/README.md", "`FILE` that describes the options of the plugin")
	out := flag.String("out", "bin/man", "`DIR` to write the pages into")
	flag.Parse()
	if err := write(context.Background(), *program, *readme, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(ctx context.Context, program, readme, out string) error {
	date, err := today(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	pages := map[string]string{"coredns-meshvm.8": coreDNS}
	if err := describe(ctx, pages, program); err != nil {
		return err
	}
	plugin, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("describe the plugin: %w", err)
	}
	if pages["meshvm.5"], err = ofPlugin(string(plugin)); err != nil {
		return fmt.Errorf("describe the plugin as in %s: %w", readme, err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil { // #nosec G301 -- for everybody to read
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		page := render(name, date, pages[name])
		if err := os.WriteFile(filepath.Join(out, name), page, 0o644); err != nil { // #nosec G306 -- for everybody to read
			return err
		}
	}
	return nil
}

// today is the day in SOURCE_DATE_EPOCH, or else this one.
func today(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// render makes a page of Markdown: NAME.SECTION.
func render(name string, date time.Time, text string) []byte {
	title, section, _ := strings.Cut(name, ".")
	head := fmt.Sprintf("%% %q %q %q \"meshvm\" \"meshvm on a virtual machine\"\n\n", strings.ToUpper(title), section, date.Format(time.DateOnly))
	return md2man.Render([]byte(head + text))
}

// describe adds a page for meshvmctl, and for every command below it.
func describe(ctx context.Context, pages map[string]string, program string) error {
	top, err := ask(ctx, program)
	if err != nil {
		return err
	}
	pages["meshvmctl.1"] = top.page([]string{"meshvmctl"}, "look into the DNS of a service mesh, and have machines join it")
	return describeBelow(ctx, pages, program, nil, top)
}

func describeBelow(ctx context.Context, pages map[string]string, program string, above []string, group help) error {
	for _, c := range group.commands {
		if c.name == "help" {
			continue
		}
		words := append(slices.Clone(above), c.name)
		said, err := ask(ctx, program, words...)
		if err != nil {
			return err
		}
		full := append([]string{"meshvmctl"}, words...)
		pages[strings.Join(full, "-")+".1"] = said.page(full, c.text)
		if err := describeBelow(ctx, pages, program, words, said); err != nil {
			return err
		}
	}
	return nil
}

// ask has a command describe itself.
func ask(ctx context.Context, program string, words ...string) (help, error) {
	said, err := exec.CommandContext(ctx, program, append(slices.Clone(words), "--help")...).Output() // #nosec G204 -- whoever builds names it
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return help{}, fmt.Errorf("%s %s --help: %w", program, strings.Join(words, " "), err)
	}
	h, err := parse(string(said))
	if err != nil {
		return help{}, fmt.Errorf("%s %s --help: %w", program, strings.Join(words, " "), err)
	}
	return h, nil
}
