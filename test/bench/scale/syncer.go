package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/meshvm/meshvm/syncer/server"
)

// syncer is a syncer in a process of its own, so that memory and CPU are its alone.
type syncer struct {
	address string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

// startSyncer runs this program again, as a syncer of so many services.
func startSyncer(ctx context.Context, services, views int, c *credentials) (*syncer, error) {
	return startSyncerWith(ctx, childConfig{Services: services, Views: views}, c)
}

func startSyncerWith(ctx context.Context, config childConfig, c *credentials) (*syncer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &syncer{cmd: exec.CommandContext(ctx, program)}
	s.cmd.Env = append(os.Environ(), childVariable+"=1")
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a syncer: %w", err)
	}
	config.TLS = server.TLSFiles{Certificate: c.path("server.pem"), Key: c.path("key.pem"), ClientCA: c.path("ca.pem")}
	said, err := s.ask(config)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.address = said.Address
	return s, nil
}

// do has the syncer obey a command.
func (s *syncer) do(ordered command) (answer, error) {
	said, err := s.ask(ordered)
	if err != nil {
		return said, fmt.Errorf("syncer, %s: %w", ordered.Do, err)
	}
	return said, nil
}

func (s *syncer) ask(line any) (answer, error) {
	var said answer
	encoded, err := json.Marshal(line)
	if err != nil {
		return said, err
	}
	if _, err := s.in.Write(append(encoded, '\n')); err != nil {
		return said, err
	}
	if !s.out.Scan() {
		return said, errors.Join(errors.New("the syncer has ended"), s.out.Err())
	}
	if err := json.Unmarshal(s.out.Bytes(), &said); err != nil {
		return said, err
	}
	if said.Error != "" {
		return said, errors.New(said.Error)
	}
	return said, nil
}

// stop ends the process by closing its standard input.
func (s *syncer) stop() error {
	if err := s.in.Close(); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("syncer: %w", err)
	}
	return nil
}
