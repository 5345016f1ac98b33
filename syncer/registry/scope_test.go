package registry

import (
	"strconv"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// scopeOf is the scope of egress listeners as they are written: hosts separated by blanks, after a port and a
// colon where there is one.
func scopeOf(t testing.TB, listeners ...string) *Scope {
	t.Helper()
	var parsed []EgressListener
	for _, text := range listeners {
		var l EgressListener
		if port, hosts, found := strings.Cut(text, ":"); found {
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			l.Port, text = uint32(number), hosts
		}
		for host := range strings.FieldsSeq(text) {
			entry, err := ParseEgressHost(host, "vm")
			if err != nil {
				t.Fatal(err)
			}
			l.Hosts = append(l.Hosts, entry)
		}
		parsed = append(parsed, l)
	}
	return NewScope(parsed)
}

// TestScope holds Istio's rules of what an egress listener imports.
func TestScope(t *testing.T) {
	const reviews, wildcard = "prod/reviews.prod.svc.cluster.local", "prod/*.api.example.com"
	tests := map[string]struct {
		egress []string
		// service is its namespace and host, and its ports after colons.
		service string
		want    bool
	}{
		"everything":                                       {[]string{"*/*"}, reviews, true},
		"nothing":                                          {[]string{"~/*"}, reviews, false},
		"no hosts":                                         {[]string{""}, reviews, false},
		"the VM's own namespace":                           {[]string{"./*"}, "vm/a.vm.svc.cluster.local", true},
		"another than the VM's own":                        {[]string{"./*"}, reviews, false},
		"a namespace":                                      {[]string{"prod/*"}, reviews, true},
		"another namespace":                                {[]string{"dev/*"}, reviews, false},
		"a name":                                           {[]string{"prod/reviews.prod.svc.cluster.local"}, reviews, true},
		"a name in any namespace":                          {[]string{"*/reviews.prod.svc.cluster.local"}, reviews, true},
		"a name elsewhere":                                 {[]string{"dev/reviews.prod.svc.cluster.local"}, reviews, false},
		"another name":                                     {[]string{"prod/ratings.prod.svc.cluster.local"}, reviews, false},
		"a suffix":                                         {[]string{"*/*.svc.cluster.local"}, reviews, true},
		"a suffix is of whole labels":                      {[]string{"*/*.eviews.prod.svc.cluster.local"}, reviews, false},
		"a suffix is not its own apex":                     {[]string{"*/*.reviews.prod.svc.cluster.local"}, reviews, false},
		"a wildcard by everything":                         {[]string{"*/*"}, wildcard, true},
		"a wildcard by itself":                             {[]string{"*/*.api.example.com"}, wildcard, true},
		"a wildcard by a wider one":                        {[]string{"*/*.example.com"}, wildcard, true},
		"a wildcard by a narrower one":                     {[]string{"*/*.v1.api.example.com"}, wildcard, false},
		"a wildcard by a name that it covers":              {[]string{"*/v1.api.example.com"}, wildcard, false},
		"a name below a wildcard does not import it":       {[]string{"*/*.v1.example.com"}, "prod/example.com", false},
		"the namespace's entries do not replace all's":     {[]string{"prod/ratings.prod.svc.cluster.local */*"}, reviews, true},
		"several listeners add up":                         {[]string{"dev/*", "prod/*"}, reviews, true},
		"taken out by name":                                {[]string{"*/* ~prod/reviews.prod.svc.cluster.local"}, reviews, false},
		"taken out by suffix":                              {[]string{"*/* ~*/*.prod.svc.cluster.local"}, reviews, false},
		"taken out in another namespace":                   {[]string{"*/* ~dev/*"}, reviews, true},
		"taken out of the VM's own":                        {[]string{"*/* ~./*"}, "vm/a.vm.svc.cluster.local", false},
		"taken out of everything, whatever the order":      {[]string{"~/*.example.com */*"}, "dev/a.example.com", false},
		"taken out of one listener only":                   {[]string{"*/* ~prod/*", "prod/*"}, reviews, true},
		"a wildcard is not taken out by a name":            {[]string{"*/* ~*/v1.api.example.com"}, wildcard, true},
		"the listener's port":                              {[]string{"9080:*/*"}, reviews + ":80:9080", true},
		"not the listener's port":                          {[]string{"9080:*/*"}, reviews + ":80", false},
		"no ports, and a listener with one":                {[]string{"9080:*/*"}, reviews, false},
		"not that listener's port, but the catch-all's":    {[]string{"9080:*/*", "*/*"}, reviews + ":80", true},
		"not that listener's port, nor the catch-all's ns": {[]string{"9080:*/*", "dev/*"}, reviews + ":80", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text, ports, _ := strings.Cut(test.service, ":")
			namespace, host, _ := strings.Cut(text, "/")
			body := &registryv1.Service{Host: host}
			for number := range strings.SplitSeq(ports, ":") {
				if parsed, err := strconv.Atoi(number); err == nil {
					body.Ports = append(body.Ports, &registryv1.Port{Number: uint32(parsed)})
				}
			}
			entries, err := encode(Update{Object: Object{Namespace: namespace}, Resources: []Resource{
				{Key: "key", Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: body}}},
			}}, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := scopeOf(t, test.egress...).Sees(entries[0]); got != test.want {
				t.Errorf("Sees: got %v, want %v", got, test.want)
			}
		})
	}
}

func TestScopeIsToldApartByContent(t *testing.T) {
	one := scopeOf(t, "80:prod/* dev/*", "*/*.example.com ~/a.example.com")
	tests := map[string]struct {
		other *Scope
		same  bool
	}{
		"the same in another order": {scopeOf(t, "~*/a.example.com */*.example.com */*.example.com", "80:dev/* prod/*"), true},
		"another port":              {scopeOf(t, "81:prod/* dev/*", "*/*.example.com ~/a.example.com"), false},
		"no port":                   {scopeOf(t, "prod/* dev/*", "*/*.example.com ~/a.example.com"), false},
		"a host more":               {scopeOf(t, "80:prod/* dev/* test/*", "*/*.example.com ~/a.example.com"), false},
		"hosts in other listeners":  {scopeOf(t, "80:prod/*", "dev/* */*.example.com ~/a.example.com"), false},
		"imported, not taken out":   {scopeOf(t, "80:prod/* dev/*", "*/*.example.com */a.example.com"), false},
		"none":                      {nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := one.ID() == test.other.ID(); got != test.same {
				t.Errorf("Same ID: got %v, want %v", got, test.same)
			}
		})
	}
}
