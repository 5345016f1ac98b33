//go:build chart

package chart

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// request is what the API server wrote down of one that the syncer sent.
type request struct {
	User   struct{ Username string }
	Verb   string
	Object struct {
		Resource, Subresource, APIGroup, Name, Namespace string
	} `json:"objectRef"`
	Path        string `json:"requestURI"`
	Annotations map[string]string
}

func (r request) allowed() bool { return r.Annotations["authorization.k8s.io/decision"] == "allow" }

// what is the request as rules name it: "VERB GROUP/RESOURCE", or "VERB /PATH".
func (r request) what() string {
	if r.Object.Resource == "" {
		path, _, _ := strings.Cut(r.Path, "?")
		return r.Verb + " " + path
	}
	resource := r.Object.Resource
	if r.Object.Subresource != "" {
		resource += "/" + r.Object.Subresource
	}
	return r.Verb + " " + r.Object.APIGroup + "/" + resource
}

// audit is a place in the API server's log.
type audit struct{ from int64 }

// auditFromNow leaves out what was asked before.
func auditFromNow(t *testing.T) *audit {
	t.Helper()
	info, err := os.Stat(audits)
	if err != nil {
		t.Fatal(err)
	}
	return &audit{from: info.Size()}
}

// requests is what the chart's ServiceAccount has asked since.
func (a *audit) requests() ([]request, error) {
	file, err := os.Open(audits)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(a.from, 0); err != nil {
		return nil, err
	}
	var requests []request
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			continue // The end of the file is being written.
		}
		if r.User.Username == "system:serviceaccount:"+namespace+":"+release {
			requests = append(requests, r)
		}
	}
	return requests, lines.Err()
}

// asked waits until something was asked, and allowed or denied.
func (a *audit) asked(t *testing.T, what string, allowed bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s, allowed: %t", what, allowed), func() error {
		requests, err := a.requests()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(requests, func(r request) bool { return r.allowed() == allowed && matches(what, r.what()) }) {
			return errNotYet
		}
		return nil
	})
}

// matches is whether a request is one of those that "VERB|VERB GROUP/RESOURCE" names.
func matches(what, asked string) bool {
	verbs, resource, _ := strings.Cut(what, " ")
	verb, on, _ := strings.Cut(asked, " ")
	return on == resource && slices.Contains(strings.Split(verbs, "|"), verb)
}
