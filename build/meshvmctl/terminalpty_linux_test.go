package main

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pseudoTerminal is the side of a terminal that programs write to (pty(7)).
func pseudoTerminal(t *testing.T) *os.File {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controller.Close() }) // the test has ended
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // the test has ended
	return file
}

// TestWhoSeesColours has a terminal and a pipe, and what people say in the environment about colours.
func TestWhoSeesColours(t *testing.T) {
	terminal := pseudoTerminal(t)
	reader, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), pipe.Close() }) // the test has ended
	tests := []struct {
		name        string
		to          *os.File
		environment map[string]string
		want        bool
	}{
		{"a terminal", terminal, nil, true},
		{"a pipe", pipe, nil, false},
		{"NO_COLOR", terminal, map[string]string{"NO_COLOR": "1"}, false},
		{"an empty NO_COLOR, which is none", terminal, map[string]string{"NO_COLOR": ""}, true},
		{"CLICOLOR=0", terminal, map[string]string{"CLICOLOR": "0"}, false},
		{"CLICOLOR=1", terminal, map[string]string{"CLICOLOR": "1"}, true},
		{"a dumb terminal", terminal, map[string]string{"TERM": "dumb"}, false},
		{"a terminal that nobody names", terminal, map[string]string{"TERM": ""}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range map[string]string{"TERM": "xterm", "NO_COLOR": "", "CLICOLOR": ""} {
				t.Setenv(name, value)
			}
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			if got := coloured(test.to); got != test.want {
				t.Errorf("coloured: got %t, want %t", got, test.want)
			}
		})
	}
}
