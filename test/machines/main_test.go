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
	// Out here, where there is a network.
	if err := machine.Roots(context.Background(), machine.Setups()); err != nil {
		fmt.Fprintln(os.Stderr, "machines:", err)
		os.Exit(1)
	}
	if err := machine.Sandbox(); err != nil {
		fmt.Fprintln(os.Stderr, "machines:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
