package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestParse(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
	tests := []struct {
		name, file, content     string
		objects, faults, passed []string
	}{
		{name: "an empty file", content: ""},
		{name: "nothing but comments and separators", content: "# a\n---\n---\n# b\n"},
		{
			name:    "several documents, with the lines they start at",
			content: service + "spec: {clusterIP: 10.0.0.1}\n---\n# two\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: prod\n---\n",
			objects: []string{"1 Service default/a", "7 Namespace /prod"},
		}, {
			name: "a List", content: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a, namespace: x}\n" +
				"- apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n  metadata: {name: b}\n  addressType: IPv4\n  endpoints: []\n",
			objects: []string{"4 Service x/a", "7 EndpointSlice default/b"},
		}, {
			name: "a List in a List", content: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n",
			faults: []string{"4: a List in a List"},
		}, {
			name: "JSON, several objects", file: "x.json",
			content: "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\"}}\n\n{\"apiVersion\":\"v1\",\n\t\"kind\":\"Namespace\",\"metadata\":{\"name\":\"\\ud83d\\ude00\"}}",
			objects: []string{"1 Service default/a", "3 Namespace /😀"},
		}, {
			name: "JSON within YAML", content: `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}`,
			objects: []string{"1 Namespace /prod"},
		}, {
			name:    "all versions of Istio's kinds",
			content: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.com], resolution: STATIC}\n---\napiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {name: b}\n---\napiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\nmetadata: {name: c}\nstatus: {addresses: [{host: a.com, value: 240.240.0.1}]}\n",
			objects: []string{"1 ServiceEntry default/a", "6 ServiceEntry default/b", "10 ServiceEntry default/c"},
		}, {
			name:    "other kinds are passed over, and a Service that is not Kubernetes' own",
			content: "apiVersion: apps/v1\nkind: Deployment\nwhatever: true\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: vm}\nspec: {}\n",
			passed:  []string{"apps/v1 Deployment", "serving.knative.dev/v1 Service", "networking.istio.io/v1 WorkloadGroup"},
		}, {
			name: "a WorkloadEntry is checked all the same", content: "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm}\nspec:\n  ip: 192.0.2.1\n",
			faults: []string{`5: spec: unknown field "ip"`},
		}, {
			name: "a version that is not known", content: "kind: EndpointSlice\nmetadata: {name: a}\napiVersion: discovery.k8s.io/v1beta1\n",
			faults: []string{`3: apiVersion "discovery.k8s.io/v1beta1" of EndpointSlice is not known`},
		}, {
			name: "a field that does not exist, deep inside", content: service + "spec:\n  ports:\n  - port: 80\n  - port: 81\n    targetport: 8080\n",
			faults: []string{`8: unknown field "spec.ports[1].targetport"`},
		}, {
			name: "a field of the wrong type", content: service + "spec:\n  clusterIP: 10.0.0.1\n  ports:\n  - name: x\n    port: http\n",
			faults: []string{"8: field spec.ports.port: unexpected string"},
		}, {
			name: "a time that is none", content: service + "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  creationTimestamp: yesterday\n",
			faults: []string{`5: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`},
		}, {
			name: "a field of a ServiceEntry that does not exist", content: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: a\nspec:\n  hosts:\n  - a.com\n  resolutions: NONE\n",
			faults: []string{`8: spec: unknown field "resolutions"`},
		}, {
			name: "a value of a ServiceEntry that does not exist", content: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: a\nspec:\n  hosts:\n  - a.com\n  ports:\n  - number: 1\n    name: x\n  resolution: STATICALLY\n",
			faults: []string{`11: spec: invalid value for enum field resolution: "STATICALLY"`},
		}, {
			name: "a field beside the spec of a ServiceEntry", content: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: a\nhosts: [a.com]\n",
			faults: []string{`5: unknown field "hosts"`},
		}, {
			name: "every fault of a file is told", content: service + "spek: {}\n---\n- 1\n---\nkind: Service\n---\napiVersion: v1\nkind: Service\nmetadata: {}\n---\napiVersion: v1\nkind: 1\n",
			faults: []string{`4: unknown field "spek"`, "6: not an object", "8: apiVersion or kind is missing", "12: Service without metadata.name", "15: field kind: unexpected number"},
		}, {
			name: "a key twice", content: service + "spec:\n  clusterIP: 10.0.0.1\n  type: ClusterIP\n  clusterIP: 10.0.0.2\n",
			faults: []string{`7: key "clusterIP" is there twice, first in line 5`},
		}, {
			name: "a key twice in JSON", file: "x.json", content: "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\",\n\"name\": \"b\"}}",
			faults: []string{`1: duplicate field "metadata.name"`},
		}, {
			name: "a mapping where none can be", content: "apiVersion: v1\nkind: Service\nmetadata: name: a\n",
			faults: []string{"3: not valid YAML: mapping values are not allowed in this context"},
		}, {
			name: "a list that is not closed", content: service + "spec:\n  clusterIPs: [10.0.0.1\n  type: ClusterIP\n",
			faults: []string{"6: not valid YAML: did not find expected ',' or ']'"},
		}, {
			name: "an indentation that does not fit", content: service + "spec:\n  clusterIP: 10.0.0.1\n type: ClusterIP\n",
			faults: []string{"6: not valid YAML: did not find expected key"},
		}, {
			name: "a tab as indentation", content: "apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n",
			faults: []string{"4: not valid YAML: found character that cannot start any token"},
		}, {
			name: "a fault in the second document", content: service + "---\na: b: c\n",
			faults: []string{"5: not valid YAML: mapping values are not allowed in this context"},
		}, {
			name: "JSON that is cut off", file: "x.json", content: "{\n \"kind\": \"Service\",\n",
			faults: []string{"3: not valid JSON: unexpected EOF"},
		}, {
			name: "JSON with a comma too many", file: "x.json", content: "{\n \"kind\": \"Service\",\n}",
			faults: []string{"3: not valid JSON: invalid character '}' looking for beginning of object key string"},
		}, {
			name: "not text", content: "apiVersion: v1\n\xff\xfe\x00",
			faults: []string{"2: not valid UTF-8"},
		}, {
			name: "an alias within itself", content: "a: &x\n  b: *x\n",
			faults: []string{"not valid"}, // By the parser or by us: see below.
		}, {
			name: "an anchor, an alias and a merge", content: "apiVersion: v1\nkind: List\nitems:\n- &base\n  apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n- <<: *base\n  metadata: {name: b}\n",
			objects: []string{"4 Service default/a", "8 Service default/b"},
		}, {
			name: "an unquoted time, number and boolean where they belong", content: "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  creationTimestamp: 2024-05-01T10:00:00Z\nspec:\n  ports: [{port: 0x50}]\n  publishNotReadyAddresses: true\n",
			objects: []string{"1 Service default/a"},
		}, {
			name: "a number that JSON has not", content: service + "spec: {sessionAffinityConfig: {clientIP: {timeoutSeconds: .inf}}}\n",
			faults: []string{`4: ".inf": not a finite number`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := test.file
			if file == "" {
				file = "x.yaml"
			}
			found := parse(file, []byte(test.content))
			if test.name == "an alias within itself" {
				if len(found.faults) != 1 {
					t.Errorf("faults: got %v, want one", found.faults)
				}
				return
			}
			var objects, faults []string
			for _, o := range found.objects {
				objects = append(objects, fmt.Sprintf("%d %s %s/%s", o.line, o.kind, o.state.GetNamespace(), o.state.GetName()))
			}
			for _, f := range found.faults {
				faults = append(faults, fmt.Sprintf("%d: %s", f.line, f.what))
				if f.want == "" {
					t.Errorf("fault %q does not say what is expected", f.what)
				}
			}
			if len(test.faults) == 0 && !slices.Equal(objects, test.objects) {
				t.Errorf("objects: got %q, want %q", objects, test.objects)
			}
			if !slices.Equal(faults, test.faults) {
				t.Errorf("faults:\n got  %q\n want %q", faults, test.faults)
			}
			if !slices.Equal(found.ignored, test.passed) {
				t.Errorf("passed over: got %q, want %q", found.ignored, test.passed)
			}
		})
	}
}

func TestParseReadsValues(t *testing.T) {
	found := parse("x.yaml", []byte(`apiVersion: v1
kind: Service
metadata:
  name: a
  creationTimestamp: 2024-05-01T10:00:00Z
  annotations: {day: 2024-05-01, networking.istio.io/exportTo: "."}
spec:
  clusterIPs: [10.0.0.1, "fd00::1"]
  ports: [{port: 0x50, targetPort: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, labels: {networking.istio.io/enable-autoallocate-ip: "false"}}
spec:
  hosts: [a.com]
  exportTo: ["."]
  resolution: DYNAMIC_DNS
  ports: [{number: 443, name: https, protocol: TLS, targetPort: 8443}]
status:
  addresses: [{host: a.com, value: 240.240.0.1}]
`))
	if len(found.faults) > 0 || len(found.objects) != 2 {
		t.Fatalf("got faults %v and %d objects, want none and 2", found.faults, len(found.objects))
	}
	service, ok := found.objects[0].state.(*corev1.Service)
	if !ok {
		t.Fatalf("first object: got %T, want a Service", found.objects[0].state)
	}
	got := fmt.Sprintln(service.CreationTimestamp.Unix(), service.Annotations["day"], service.Spec.ClusterIPs, service.Spec.Ports[0].Port, service.Spec.Ports[0].TargetPort.StrVal)
	if want := "1714557600 2024-05-01 [10.0.0.1 fd00::1] 80 http\n"; got != want {
		t.Errorf("Service: got %s, want %s", got, want)
	}
	entry, ok := found.objects[1].state.(*networkingv1.ServiceEntry)
	if !ok {
		t.Fatalf("second object: got %T, want a ServiceEntry", found.objects[1].state)
	}
	got = fmt.Sprintln(entry.Labels, entry.Spec.GetHosts(), entry.Spec.GetExportTo(), entry.Spec.GetResolution(), entry.Spec.GetPorts()[0].GetTargetPort(), entry.Status.GetAddresses()[0].GetValue())
	if want := "map[networking.istio.io/enable-autoallocate-ip:false] [a.com] [.] DYNAMIC_DNS 8443 240.240.0.1\n"; got != want {
		t.Errorf("ServiceEntry: got %s, want %s", got, want)
	}
}

func TestParseBoundsWhatAliasesExpandTo(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 20; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	found := parse("x.yaml", []byte(bomb.String()))
	if len(found.faults) != 1 || !strings.Contains(found.faults[0].what, "aliases expand") {
		t.Errorf("got %v, want a fault that names the aliases", found.faults)
	}
}

func TestParseBoundsWhatMergesCost(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 {x: y}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d {<<: [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]}\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	found := parse("x.yaml", []byte(bomb.String()))
	if len(found.faults) != 1 || !strings.Contains(found.faults[0].what, "aliases expand") {
		t.Errorf("got %v, want a fault that names the aliases", found.faults)
	}
}

func TestParseBoundsFaults(t *testing.T) {
	found := parse("x.yaml", []byte(strings.Repeat("kind: x\n---\n", 1000)))
	if len(found.faults) != maxFaults+1 || found.faults[maxFaults].what != "980 more faults like these" {
		t.Errorf("got %d faults, the last %v, want %d and a count of the rest", len(found.faults), found.faults[len(found.faults)-1], maxFaults+1)
	}
}

func TestReadFileRefuses(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, MaxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		large: "larger than 16777216 bytes",
		pipe:  "not a regular file",
		link:  "open: no such file or directory",
	} {
		f := &file{name: filepath.Base(path)}
		outcome := f.reload(path, nil, time.Now())
		if len(f.faults) != 1 || f.faults[0].what != want || outcome != other {
			t.Errorf("%s: got %v, outcome %d, want %q and another content", f.name, f.faults, outcome, want)
		}
		if f.reload(path, nil, time.Now()) != same {
			t.Errorf("%s: the same fault counts as a change", f.name)
		}
	}
}

// FuzzParse holds that no content crashes the parser or makes it lie: faults come with a line of
// the file and what is expected, objects with a name and a line, and never both are used.
func FuzzParse(f *testing.F) {
	f.Add("x.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1}\n---\n- 1\n")
	f.Add("x.yaml", "apiVersion: v1\nkind: List\nitems:\n- &base\n  apiVersion: v1\n  kind: Service\n- <<: [*base]\n")
	f.Add("x.yaml", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.com], ports: [{number: 1, name: x}]}\nstatus: {}\n")
	f.Add("x.json", "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"a\"}} {}")
	f.Add("x.json", "{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"metadata\": {\"name\": \"a\"}, \"endpoints\": [{\"addresses\": [\"1\"]}]}")
	f.Add("x.yaml", "a: &x\n  b: *x\n? [k]\n: v\n!!binary x: 0x\n")
	f.Add("x.yaml", "\r0")
	// What YAML 1.1 takes for the end of a line.
	const breaks = "\n\r\u0085\u2028\u2029"
	f.Fuzz(func(t *testing.T, name, content string) {
		found := parse(name, []byte(content))
		lines := 1
		for _, r := range content {
			if strings.ContainsRune(breaks, r) {
				lines++
			}
		}
		for i, fault := range found.faults {
			if fault.what == "" || fault.want == "" {
				t.Errorf("fault %+v does not say what is wrong and expected", fault)
			}
			if more := i == maxFaults; fault.line > lines || fault.line < 1 && !more {
				t.Errorf("fault %+v is outside the file's %d lines", fault, lines)
			}
		}
		for _, object := range found.objects {
			if object.state.GetName() == "" || object.line < 1 || object.line > lines {
				t.Errorf("object %s %q in line %d of %d", object.kind, object.state.GetName(), object.line, lines)
			}
		}
	})
}
