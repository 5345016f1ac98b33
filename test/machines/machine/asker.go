package machine

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"syscall"
)

// Asker is a running client of the program test/machines/load.
type Asker struct {
	machine *Machine
	command *exec.Cmd
	output  bytes.Buffer
	ended   bool
}

// Report is what came of the queries. See the program load.
type Report struct {
	Seconds  float64        `json:"seconds"`
	UDP      int            `json:"udp"`
	TCP      int            `json:"tcp"`
	Answered int            `json:"answered"`
	Lost     map[string]int `json:"lost"`
	Slowest  float64        `json:"slowest_ms"`
}

// Stop ends it, and returns what it counted.
func (a *Asker) Stop() Report {
	a.machine.tb.Helper()
	check(a.machine.tb, a.command.Process.Signal(syscall.SIGTERM))
	a.ended = true
	check(a.machine.tb, a.command.Wait())
	var report Report
	check(a.machine.tb, json.Unmarshal(a.output.Bytes(), &report))
	return report
}

func (a *Asker) kill() {
	if a.ended {
		return
	}
	if err := a.command.Process.Kill(); err != nil {
		a.machine.tb.Errorf("kill the client: %v", err)
	}
	_ = a.command.Wait() // it was killed
}
