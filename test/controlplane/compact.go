package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// CompactEtcd has etcd forget all revisions but the latest, as the API server
// does every five minutes. A watch from an earlier resourceVersion is then 410
// Gone, once the API server's own cache, which a restart empties, does not reach
// back to it either.
func (c *ControlPlane) CompactEtcd(ctx context.Context) error {
	var latest struct {
		Header struct {
			Revision int64 `json:",string"`
		}
	}
	// Any range says the revision; this one, the key of one zero byte, is empty.
	err := c.askEtcd(ctx, "/v3/kv/range", map[string]any{"key": []byte{0}}, &latest)
	if err == nil {
		err = c.askEtcd(ctx, "/v3/kv/compaction", map[string]any{"revision": latest.Header.Revision, "physical": true}, &struct{}{})
	}
	if err != nil {
		return fmt.Errorf("compact etcd: %w", err)
	}
	return nil
}

// askEtcd calls a method of etcd's API in JSON.
func (c *ControlPlane) askEtcd(ctx context.Context, path string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	encoded, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.etcdClients.url("http")+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %s", path, response.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	return nil
}
