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
	"syscall"
)

// maxReport bounds what is read of a Report, in bytes.
const maxReport = 4 << 20

// Ask asks the process that serves a socket for its Report. The error says what to look after.
func Ask(ctx context.Context, path string) (Report, error) {
	var dialer net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://meshvm/status", nil)
	if err != nil {
		return Report{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Report{}, explain(path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReport+1))
	switch {
	case err != nil:
		return Report{}, fmt.Errorf("read the status from %s: %w", path, err)
	case len(body) > maxReport:
		return Report{}, fmt.Errorf("the status from %s is larger than %d bytes", path, maxReport)
	case response.StatusCode != http.StatusOK:
		return Report{}, fmt.Errorf("%s answers %s", path, response.Status)
	}
	var report Report
	if err := json.Unmarshal(body, &report); err != nil {
		return Report{}, fmt.Errorf("%s does not answer as CoreDNS with meshvm: %w", path, err)
	}
	return report, nil
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
