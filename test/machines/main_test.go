//go:build machines

package machines

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := prepare(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "machines:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare builds what machines are made of, out here where there is a network, and then goes where machines run.
func prepare(ctx context.Context) error {
	if err := machine.Roots(ctx, machine.All()); err != nil {
		return err
	}
	if err := machine.Images(ctx, virtual()); err != nil {
		return err
	}
	if err := machine.Probes(ctx); err != nil {
		return err
	}
	return machine.Sandbox()
}
