package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// maxReport bounds what is read of a Report, in bytes.
const maxReport = 8 << 20

// Ask asks the process that serves a socket for its Report. The error says what to look after.
func Ask(ctx context.Context, path string) (Report, error) {
	var report Report
	err := get(ctx, path, "/status", &report)
	return report, err
}

// MaxHosts is how many hosts are named at most.
const MaxHosts = 20_000

// Hosts asks the process that serves a socket for the mesh's hosts outside its zones: sorted, without the final dot, a wildcard as
// *.suffix, at most MaxHosts. They are the same while the revisions of all mirrors in the Report are.
func Hosts(ctx context.Context, path string) ([]string, error) {
	var hosts []string
	err := get(ctx, path, "/hosts", &hosts)
	return hosts, err
}

// get asks for what is served at a path of the socket's.
func get(ctx context.Context, socket, what string, into any) error {
	var dialer net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://meshvm"+what, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return explain(socket, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReport+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the status from %s: %w", socket, err)
	case len(body) > maxReport:
		return fmt.Errorf("the status from %s is larger than %d bytes", socket, maxReport)
	case response.StatusCode == http.StatusBadRequest:
		return &Refusal{strings.TrimSpace(string(body))}
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s does not tell this: CoreDNS there is of an older version than this program, restart it", socket)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", socket, response.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s does not answer as CoreDNS with meshvm: %w", socket, err)
	}
	return nil
}

func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no socket %s: see that CoreDNS with meshvm runs, that its folder was there at the start, and what the Corefile says under status", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the socket %s is for the user and the group of CoreDNS only: ask as one of them", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers at %s: see that CoreDNS runs", path)
	}
	return fmt.Errorf("ask %s: %w", path, err)
}
